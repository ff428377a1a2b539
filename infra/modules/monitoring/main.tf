data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account_id = data.aws_caller_identity.this.account_id
  partition  = data.aws_partition.this.partition
  region     = data.aws_region.this.name

  endpoint = { EndpointName = var.endpoint_name, VariantName = var.variant_name }
  monitor  = { EndpointName = var.endpoint_name }

  # Alarms 1 to 5; alarm 6 is the budget. ModelLatency is in microseconds; AccuracyDrop is a fraction. `notify` tells people,
  # `retrain` starts a retraining through EventBridge, where every alarm's state changes go.
  mission = {
    endpoint-errors = {
      description = "Critical: more than ${var.limits.errors_per_hour} failed predictions in an hour"
      namespace   = "AWS/SageMaker"
      metric      = "Invocation5XXErrors"
      dimensions  = local.endpoint
      statistic   = "Sum"
      percentile  = null
      unit        = null
      period      = 3600
      evaluations = 1
      threshold   = var.limits.errors_per_hour
      notify      = true
      retrain     = false
    }
    latency-p95 = {
      description = "Warning: 95 of 100 predictions take up to more than ${var.limits.latency_ms} ms"
      namespace   = "AWS/SageMaker"
      metric      = "ModelLatency"
      dimensions  = local.endpoint
      statistic   = null
      percentile  = "p95"
      unit        = "Microseconds"
      period      = 300
      evaluations = 3
      threshold   = var.limits.latency_ms * 1000
      notify      = true
      retrain     = false
    }
    training-failed = {
      description = "Critical: a training job failed; its reason is in ${aws_cloudwatch_log_group.training.name}"
      namespace   = "AWS/Events"
      metric      = "TriggeredRules"
      dimensions  = { RuleName = aws_cloudwatch_event_rule.training_failed.name }
      statistic   = "Sum"
      percentile  = null
      unit        = null
      period      = 60
      evaluations = 1
      threshold   = 0
      notify      = true
      retrain     = false
    }
    data-drift = {
      description = "Warning: the data differ from the training data; EventBridge starts a retraining"
      namespace   = var.metric_namespace
      metric      = "DataDriftViolations"
      dimensions  = local.monitor
      statistic   = "Maximum"
      percentile  = null
      unit        = "Count"
      period      = 3600
      evaluations = 1
      threshold   = 0
      notify      = false
      retrain     = true
    }
    accuracy-drop = {
      description = "Critical: accuracy fell by more than ${var.limits.accuracy_drop * 100} points; EventBridge starts a retraining"
      namespace   = var.metric_namespace
      metric      = "AccuracyDrop"
      dimensions  = local.monitor
      statistic   = "Maximum"
      percentile  = null
      unit        = "None"
      period      = 21600
      evaluations = 1
      threshold   = var.limits.accuracy_drop
      notify      = false
      retrain     = true
    }
  }

  # Two more, for what accuracy does not show. Patients are affected at once, so these tell people, too.
  patients = {
    sensitivity-drop = {
      description = "Critical: of the malignant lesions, ${var.limits.sensitivity_drop * 100} of 100 fewer are flagged; EventBridge starts a retraining"
      namespace   = var.metric_namespace
      metric      = "SensitivityDrop"
      dimensions  = local.monitor
      statistic   = "Maximum"
      percentile  = null
      unit        = "None"
      period      = 21600
      evaluations = 1
      threshold   = var.limits.sensitivity_drop
      notify      = true
      retrain     = true
    }
    bias = {
      description = "Critical: a group of patients is served worse than when the model was approved; EventBridge starts a retraining"
      namespace   = var.metric_namespace
      metric      = "BiasViolations"
      dimensions  = local.monitor
      statistic   = "Maximum"
      percentile  = null
      unit        = "Count"
      period      = 86400
      evaluations = 1
      threshold   = var.limits.bias_violations
      notify      = true
      retrain     = true
    }
  }

  wanted = { sensitivity-drop = var.enable_sensitivity_alarm, bias = var.enable_bias_alarm }
  alarms = merge(local.mission, { for k, a in local.patients : k => a if local.wanted[k] })
}

resource "aws_cloudwatch_metric_alarm" "this" {
  #checkov:skip=CKV_AWS_319:Every alarm acts: to the topic, through EventBridge, where every alarm's state changes go, or both
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  extended_statistic  = each.value.percentile
  unit                = each.value.unit
  period              = each.value.period
  evaluation_periods  = each.value.evaluations
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = each.value.notify ? [var.topic_arn] : []
  ok_actions          = each.value.notify ? [var.topic_arn] : []
}

# Two more for SageMaker alone: the alarms above need an hour and a quarter of one, a canary is watched for five minutes.
resource "aws_cloudwatch_metric_alarm" "rollback" {
  #checkov:skip=CKV_AWS_319:SageMaker reads their state while it deploys; people are told by the alarms above
  for_each = {
    errors  = { what = "failed predictions", metric = "Invocation5XXErrors", statistic = "Sum", percentile = null, unit = null, threshold = 0 }
    latency = { what = "slow predictions", metric = "ModelLatency", statistic = null, percentile = "p95", unit = "Microseconds", threshold = var.limits.latency_ms * 1000 }
  }

  alarm_name          = "${var.name}-rollback-${each.key}"
  alarm_description   = "Takes a deployment back: two minutes in a row with ${each.value.what}"
  namespace           = "AWS/SageMaker"
  metric_name         = each.value.metric
  dimensions          = local.endpoint
  statistic           = each.value.statistic
  extended_statistic  = each.value.percentile
  unit                = each.value.unit
  period              = 60
  evaluation_periods  = 2
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
}

# A failed training job publishes no metric: its event does, through the rule it triggers.
resource "aws_cloudwatch_event_rule" "training_failed" {
  name        = "${var.name}-training-failed"
  description = "A training job of the pipeline failed"

  event_pattern = jsonencode({
    source        = ["aws.sagemaker"]
    "detail-type" = ["SageMaker Training Job State Change"]
    detail        = { TrainingJobName = [{ prefix = "pipelines-" }], TrainingJobStatus = ["Failed"] }
  })
}

resource "aws_cloudwatch_event_target" "training_failed" {
  rule      = aws_cloudwatch_event_rule.training_failed.name
  target_id = "log"
  arn       = aws_cloudwatch_log_group.training.arn
}

resource "aws_cloudwatch_log_group" "training" {
  #checkov:skip=CKV_AWS_338:Retention is the variable log_retention_days, six years in the HIPAA example
  name              = "/aws/events/${var.name}-training-failed"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

data "aws_iam_policy_document" "training" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.training.arn}:*"]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com", "delivery.logs.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.training_failed.arn]
    }
  }
}

resource "aws_cloudwatch_log_resource_policy" "training" {
  policy_name     = "${var.name}-training-failed"
  policy_document = data.aws_iam_policy_document.training.json
}

# Alarm 6: what this project costs, by its tag (activate the tag `Project` for cost allocation once per account).
resource "aws_budgets_budget" "this" {
  name         = "${var.name}-monthly-cost"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.limits.monthly_cost_usd)
  limit_unit   = "USD"

  cost_filter {
    name   = "TagKeyValue"
    values = [format("user:Project$%s", var.name)]
  }

  notification {
    notification_type         = "ACTUAL"
    comparison_operator       = "GREATER_THAN"
    threshold                 = 100
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [var.topic_arn]
  }
}
