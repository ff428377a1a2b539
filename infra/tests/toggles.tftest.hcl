# What each toggle adds, and that nothing of it is there without.

mock_provider "aws" {
  source = "./tests/mock"
}

mock_provider "aws" {
  alias  = "replica"
  source = "./tests/mock"
}

run "minimal" {
  command = plan

  assert {
    condition     = length(module.network) == 0 && length(module.entry) == 0
    error_message = "Without toggles there is no VPC and no load balancer."
  }

  assert {
    condition     = toset(keys(output.functions)) == toset(["check_data_availability", "check_pipeline_status", "evaluate_model", "approve_model", "deploy_model"])
    error_message = "Five functions."
  }

  assert {
    condition     = toset(keys(output.buckets)) == toset(["raw", "processed", "models", "logs"])
    error_message = "Four buckets."
  }

  assert {
    condition     = length(setsubtract(["endpoint-errors", "latency-p95", "training-failed", "data-drift", "accuracy-drop"], keys(output.alarms))) == 0
    error_message = "The five alarms of the mission; the sixth is the budget."
  }

  assert {
    condition     = length(setsubtract(["sensitivity-drop", "bias"], keys(output.alarms))) == 0
    error_message = "Sensitivity and bias have their alarms, unless somebody switches them off."
  }

  assert {
    condition     = output.address == null
    error_message = "There is no load balancer to have an address."
  }
}

run "without_alarms_on_patients" {
  command = plan

  variables {
    enable_sensitivity_alarm = false
    enable_bias_alarm        = false
  }

  assert {
    condition     = !contains(keys(output.alarms), "sensitivity-drop") && !contains(keys(output.alarms), "bias")
    error_message = "Switched off, they are not made."
  }
}

run "slack" {
  command = plan

  variables {
    enable_slack = true
  }

  assert {
    condition     = contains(keys(output.functions), "slack_notifier")
    error_message = "Slack needs its function."
  }
}

run "vpc" {
  command = plan

  variables {
    enable_vpc = true
  }

  assert {
    condition     = length(module.network) == 1 && length(module.entry) == 0
    error_message = "A VPC, and no load balancer."
  }
}

run "load_balancer" {
  command = plan

  variables {
    enable_vpc      = true
    enable_alb      = true
    host_name       = "predict.example.org"
    certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
    allowed_cidrs   = ["192.0.2.0/24"]
  }

  assert {
    condition     = length(module.entry) == 1 && contains(keys(output.functions), "predict")
    error_message = "A load balancer, and the function behind it."
  }
}

run "another_name" {
  command = plan

  variables {
    name          = "derma"
    bucket_suffix = "clinic"
  }

  assert {
    condition     = output.buckets["raw"] == "derma-raw-clinic" && output.endpoint == "derma-endpoint"
    error_message = "Every name begins with `name`."
  }
}
