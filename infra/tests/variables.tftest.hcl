# What a user can get wrong is refused, with the remedy, before anything is made. No account, no network.

mock_provider "aws" {
  source = "./tests/mock"
}

mock_provider "aws" {
  alias  = "replica"
  source = "./tests/mock"
}

run "region_is_a_code" {
  command         = plan
  expect_failures = [var.region]

  variables {
    region = "Ireland"
  }
}

run "name_is_short_and_plain" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "Skin_Lesion"
  }
}

run "production_is_not_a_sandbox" {
  command         = plan
  expect_failures = [var.sandbox]

  variables {
    environment = "prod"
    sandbox     = true
  }
}

run "a_copy_is_in_another_region" {
  command         = plan
  expect_failures = [var.replica_region]

  variables {
    region         = "eu-west-1"
    replica_region = "eu-west-1"
  }
}

run "retention_is_one_that_cloudwatch_takes" {
  command         = plan
  expect_failures = [var.log_retention_days]

  variables {
    log_retention_days = 31
  }
}

run "thresholds_are_shares_not_percent" {
  command         = plan
  expect_failures = [var.pipeline_parameters]

  variables {
    pipeline_parameters = { AccuracyThreshold = "85" }
  }
}

run "a_threshold_is_a_number" {
  command         = plan
  expect_failures = [var.pipeline_parameters]

  variables {
    pipeline_parameters = { MinMalignantSensitivity = "high" }
  }
}

run "a_difference_is_at_least_minus_one" {
  command         = plan
  expect_failures = [var.pipeline_parameters]

  variables {
    pipeline_parameters = { MinChampionDifference = "-2" }
  }
}

run "thresholds_of_before_are_refused_and_not_ignored" {
  command         = plan
  expect_failures = [var.thresholds]

  variables {
    thresholds = { min_malignant_sensitivity = 0.9 }
  }
}

run "sensitivity_drop_is_a_fraction" {
  command = plan

  expect_failures = [var.alarms]

  variables {
    alarms = { sensitivity_drop = 5 }
  }
}

run "accuracy_drop_is_a_fraction" {
  command         = plan
  expect_failures = [var.alarms]

  variables {
    alarms = { accuracy_drop = 5 }
  }
}

run "latency_is_in_milliseconds" {
  command         = plan
  expect_failures = [var.alarms]

  variables {
    alarms = { latency_ms = 1 }
  }
}

run "a_disk_has_a_size" {
  command         = plan
  expect_failures = [var.volume_size_gb]

  variables {
    volume_size_gb = 5
  }
}

run "scaling_in_lies_below_scaling_out" {
  command         = plan
  expect_failures = [var.scaling]

  variables {
    scaling = { scale_in_below = 1000 }
  }
}

run "emails_are_addresses" {
  command         = plan
  expect_failures = [var.alert_emails]

  variables {
    alert_emails = ["team"]
  }
}

run "phones_are_international" {
  command         = plan
  expect_failures = [var.alert_phone_numbers]

  variables {
    alert_phone_numbers = ["12345678"]
  }
}

run "approval_is_manual_or_automatic" {
  command         = plan
  expect_failures = [var.approval_mode]

  variables {
    approval_mode = "sometimes"
  }
}

run "monitors_are_the_three" {
  command         = plan
  expect_failures = [var.monitors]

  variables {
    monitors = { weather = { description = "rain", schedule = "rate(1 hour)" } }
  }
}

run "a_load_balancer_needs_a_network" {
  command         = plan
  expect_failures = [var.enable_alb]

  variables {
    enable_alb      = true
    host_name       = "predict.example.org"
    certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
    allowed_cidrs   = ["192.0.2.0/24"]
  }
}

run "a_load_balancer_needs_certificate_name_and_visitors" {
  command         = plan
  expect_failures = [var.certificate_arn, var.host_name, var.allowed_cidrs]

  variables {
    enable_vpc = true
    enable_alb = true
  }
}

run "two_private_subnets" {
  command         = plan
  expect_failures = [var.private_subnet_cidrs]

  variables {
    private_subnet_cidrs = ["10.0.1.0/24"]
  }
}

run "a_pipeline_parameter_exists_in_the_definition" {
  command         = plan
  expect_failures = [var.pipeline_parameters]

  variables {
    pipeline_parameters = { Epoch = "5" }
  }
}

run "zips_are_built_first" {
  command         = plan
  expect_failures = [var.lambda_zip_folder]

  variables {
    lambda_zip_folder = "tests/no-such-folder"
  }
}
