resource "aws_cloudwatch_log_group" "machine" {
  #checkov:skip=CKV_AWS_338:Retention is the variable log_retention_days, six years in the HIPAA example
  name              = "/aws/vendedlogs/states/${var.machine_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_sfn_state_machine" "this" {
  name     = var.machine_name
  role_arn = var.machine_role_arn
  type     = "STANDARD"

  definition = templatefile(var.definition, var.definition_values)

  logging_configuration {
    level                  = "ALL"
    include_execution_data = true
    log_destination        = "${aws_cloudwatch_log_group.machine.arn}:*"
  }

  tracing_configuration {
    enabled = true
  }

  encryption_configuration {
    type                              = "CUSTOMER_MANAGED_KMS_KEY"
    kms_key_id                        = var.kms_key_arn
    kms_data_key_reuse_period_seconds = 300
  }
}

locals {
  # The machine gets each event as AWS sends it and tells them apart by their source. A request, by event or by
  # POST /retrain, is the body alone: {reason, requested_by, parameters}.
  triggers = {
    schedule = {
      description = "Retrain every ${var.schedule_days} days"
      schedule    = "rate(${var.schedule_days} ${var.schedule_days == 1 ? "day" : "days"})"
      pattern     = null
      enabled     = var.enable_schedule
      path        = null
    }
    drift = {
      description = "Retrain when the data drift, accuracy or sensitivity drops, or a group is served worse"
      schedule    = null
      pattern = jsonencode({
        source        = ["aws.cloudwatch"]
        "detail-type" = ["CloudWatch Alarm State Change"]
        resources     = var.drift_alarm_arns
        detail        = { state = { value = ["ALARM"] } }
      })
      enabled = true
      path    = null
    }
    manual = {
      description = "Retrain when somebody puts the event `Retraining Requested`"
      schedule    = null
      pattern     = jsonencode({ source = [var.event_source], "detail-type" = ["Retraining Requested"] })
      enabled     = true
      path        = "$.detail"
    }
    # In automatic mode the machine approves and deploys in one go; this rule would deploy a second time.
    registry = {
      description = "Deploy a version when a person approves it"
      schedule    = null
      pattern = jsonencode({
        source        = ["aws.sagemaker"]
        "detail-type" = ["SageMaker Model Package State Change"]
        detail        = { ModelPackageGroupName = [var.model_package_group], ModelApprovalStatus = ["Approved"] }
      })
      enabled = var.approval_mode == "manual"
      path    = null
    }
  }
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.triggers

  name                = "${var.machine_name}-${each.key}"
  description         = each.value.description
  schedule_expression = each.value.schedule
  event_pattern       = each.value.pattern
  state               = each.value.enabled ? "ENABLED" : "DISABLED"
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.triggers

  rule       = aws_cloudwatch_event_rule.this[each.key].name
  target_id  = "retraining"
  arn        = aws_sfn_state_machine.this.arn
  role_arn   = var.events_role_arn
  input_path = each.value.path

  # Retraining must start within five minutes of its trigger, or say that it did not.
  retry_policy {
    maximum_event_age_in_seconds = 300
    maximum_retry_attempts       = 10
  }

  dead_letter_config {
    arn = var.queue_arn
  }
}

# Every ending publishes its own message. An execution that its time limit or a person ends runs no state any more, and
# one that fails in Step Functions itself catches nothing: this rule speaks for those. The status is all that the event is
# sure to have, so it also repeats what a failed retraining has said itself.
resource "aws_cloudwatch_event_rule" "silent" {
  name        = "${var.machine_name}-silent"
  description = "Tell of a retraining that ended badly, in case it could not"

  event_pattern = jsonencode({
    source        = ["aws.states"]
    "detail-type" = ["Step Functions Execution Status Change"]
    detail = {
      stateMachineArn = [aws_sfn_state_machine.this.arn]
      status          = ["FAILED", "TIMED_OUT", "ABORTED"]
    }
  })
}

resource "aws_cloudwatch_event_target" "silent" {
  rule      = aws_cloudwatch_event_rule.silent.name
  target_id = "topic"
  arn       = var.topic_arn

  input_transformer {
    input_paths    = { name = "$.detail.name", status = "$.detail.status" }
    input_template = "\"Retraining <name> is <status>. Unless it has said why itself, look at its history in Step Functions, and at the pipeline and the endpoint: what it had started goes on without it.\""
  }

  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = var.queue_arn
  }
}

resource "aws_apigatewayv2_api" "this" {
  name          = var.machine_name
  description   = "POST /retrain starts a retraining"
  protocol_type = "HTTP"
}

# The body is the execution's input, unchanged: the machine's first state checks its shape.
resource "aws_apigatewayv2_integration" "this" {
  api_id                 = aws_apigatewayv2_api.this.id
  integration_type       = "AWS_PROXY"
  integration_subtype    = "StepFunctions-StartExecution"
  credentials_arn        = var.events_role_arn
  payload_format_version = "1.0"
  timeout_milliseconds   = 10000

  request_parameters = {
    StateMachineArn = aws_sfn_state_machine.this.arn
    Input           = "$request.body"
  }
}

resource "aws_apigatewayv2_route" "this" {
  api_id             = aws_apigatewayv2_api.this.id
  route_key          = "POST /retrain"
  authorization_type = "AWS_IAM"
  target             = "integrations/${aws_apigatewayv2_integration.this.id}"
}

resource "aws_cloudwatch_log_group" "api" {
  #checkov:skip=CKV_AWS_338:Retention is the variable log_retention_days, six years in the HIPAA example
  name              = "/aws/apigateway/${var.machine_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_apigatewayv2_stage" "this" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true

  default_route_settings {
    throttling_rate_limit  = var.requests_per_second
    throttling_burst_limit = var.burst
  }

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.api.arn
    format = jsonencode({
      time    = "$context.requestTime"
      request = "$context.requestId"
      caller  = "$context.identity.userArn"
      source  = "$context.identity.sourceIp"
      route   = "$context.routeKey"
      status  = "$context.status"
      error   = "$context.integrationErrorMessage"
    })
  }
}
