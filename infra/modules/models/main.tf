locals {
  committed = jsondecode(file(var.pipeline_definition))

  # Where a job runs is this account's business, not the definition's: private subnets and no network from inside the container.
  network = {
    Processing = {
      NetworkConfig = {
        EnableNetworkIsolation                = true
        EnableInterContainerTrafficEncryption = true
        VpcConfig                             = { Subnets = var.subnet_ids, SecurityGroupIds = var.security_group_ids }
      }
    }
    Training = {
      EnableNetworkIsolation                = true
      EnableInterContainerTrafficEncryption = true
      VpcConfig                             = { Subnets = var.subnet_ids, SecurityGroupIds = var.security_group_ids }
    }
  }

  definition = merge(local.committed, {
    # A number stays a number: SageMaker refuses "20" as the default of an Integer.
    Parameters = [
      for p in local.committed.Parameters : merge(p, {
        for k, v in var.pipeline_parameters : "DefaultValue" => jsondecode(p.Type == "String" ? jsonencode(v) : v) if k == p.Name
      })
    ]
    Steps = [
      for s in local.committed.Steps : merge(s, {
        Arguments = merge(concat([s.Arguments], [for type, extra in local.network : extra if var.enable_vpc && type == s.Type])...)
      })
    ]
  })
}

resource "aws_sagemaker_pipeline" "this" {
  pipeline_name         = var.pipeline_name
  pipeline_display_name = var.pipeline_name
  pipeline_description  = "Preprocess, train, evaluate, register when the gate is passed"
  role_arn              = var.role_arn
  pipeline_definition   = jsonencode(local.definition)

  lifecycle {
    precondition {
      condition     = alltrue([for name in keys(var.pipeline_parameters) : contains(local.committed.Parameters[*].Name, name)])
      error_message = "The pipeline's definition lacks a parameter that is set here: ${join(", ", [for name in keys(var.pipeline_parameters) : name if !contains(local.committed.Parameters[*].Name, name)])}."
    }
  }
}

resource "aws_sagemaker_model_package_group" "this" {
  model_package_group_name        = var.model_package_group
  model_package_group_description = "Versions of the skin lesion classifier, each with its figures, its data and its approval"
}

# The deploy step makes models, endpoint configurations and the endpoint: a new one for every version, so they are not
# Terraform's. It also sets the same scaling, under the same names: once the endpoint exists, `endpoint_exists = true`
# takes that over.
resource "aws_appautoscaling_target" "this" {
  count = var.endpoint_exists ? 1 : 0

  service_namespace  = "sagemaker"
  resource_id        = "endpoint/${var.endpoint_name}/variant/${var.variant_name}"
  scalable_dimension = "sagemaker:variant:DesiredInstanceCount"
  min_capacity       = var.scaling.min
  max_capacity       = var.scaling.max
}

resource "aws_appautoscaling_policy" "out" {
  count = var.endpoint_exists ? 1 : 0

  name               = "${var.endpoint_name}-up"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this[0].service_namespace
  resource_id        = aws_appautoscaling_target.this[0].resource_id
  scalable_dimension = aws_appautoscaling_target.this[0].scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = var.scaling.target
    scale_out_cooldown = 60
    disable_scale_in   = true

    predefined_metric_specification {
      predefined_metric_type = "SageMakerVariantInvocationsPerInstance"
    }
  }
}

resource "aws_appautoscaling_policy" "in" {
  count = var.endpoint_exists ? 1 : 0

  name               = "${var.endpoint_name}-down"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this[0].service_namespace
  resource_id        = aws_appautoscaling_target.this[0].resource_id
  scalable_dimension = aws_appautoscaling_target.this[0].scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type = "ChangeInCapacity"
    cooldown        = 300

    step_adjustment {
      metric_interval_upper_bound = 0
      scaling_adjustment          = -1
    }
  }
}

# InvocationsPerInstance is published once a minute; its Sum over a minute is invocations per instance per minute.
resource "aws_cloudwatch_metric_alarm" "quiet" {
  count = var.endpoint_exists ? 1 : 0

  alarm_name          = "${var.endpoint_name}-quiet"
  alarm_description   = "Below ${var.scaling.scale_in_below} invocations per instance and minute for ten minutes: one instance fewer."
  namespace           = "AWS/SageMaker"
  metric_name         = "InvocationsPerInstance"
  dimensions          = { EndpointName = var.endpoint_name, VariantName = var.variant_name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 10
  threshold           = var.scaling.scale_in_below
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_appautoscaling_policy.in[0].arn]
}
