# One dashboard, four boards: operational health, model performance, cost, training progress.

locals {
  on_endpoint = ["EndpointName", var.endpoint_name, "VariantName", var.variant_name]
  on_monitor  = ["EndpointName", var.endpoint_name]

  charts = [
    # Operational health
    { y = 1, x = 0, width = 8, title = "Invocations", stat = "Sum", period = 60, metrics = [
      concat(["AWS/SageMaker", "Invocations"], local.on_endpoint), concat(["AWS/SageMaker", "InvocationsPerInstance"], local.on_endpoint),
    ] },
    { y = 1, x = 8, width = 8, title = "Model latency (microseconds)", stat = "p95", period = 60, metrics = [
      concat(["AWS/SageMaker", "ModelLatency"], local.on_endpoint), concat(["AWS/SageMaker", "OverheadLatency"], local.on_endpoint),
    ] },
    { y = 1, x = 16, width = 8, title = "Errors", stat = "Sum", period = 300, metrics = [
      concat(["AWS/SageMaker", "Invocation5XXErrors"], local.on_endpoint), concat(["AWS/SageMaker", "Invocation4XXErrors"], local.on_endpoint),
    ] },
    { y = 7, x = 0, width = 8, title = "CPU and memory (%)", stat = "Average", period = 300, metrics = [
      concat(["/aws/sagemaker/Endpoints", "CPUUtilization"], local.on_endpoint), concat(["/aws/sagemaker/Endpoints", "MemoryUtilization"], local.on_endpoint),
    ] },
    { y = 7, x = 8, width = 8, title = "Functions: errors and throttles", stat = "Sum", period = 300, metrics = flatten([
      for f in var.function_names : [["AWS/Lambda", "Errors", "FunctionName", f], ["AWS/Lambda", "Throttles", "FunctionName", f]]
    ]) },
    { y = 7, x = 16, width = 8, title = "Undelivered", stat = "Maximum", period = 300, metrics = [
      ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.queue_name],
    ] },
    # Model performance
    { y = 14, x = 0, width = 6, title = "Drift: features outside their baseline", stat = "Maximum", period = 3600, metrics = [
      concat([var.metric_namespace, "DataDriftViolations"], local.on_monitor),
    ] },
    { y = 14, x = 6, width = 6, title = "Accuracy and sensitivity", stat = "Minimum", period = 21600, metrics = [
      for m in ["Accuracy", "BalancedAccuracy", "MalignantSensitivity"] : concat([var.metric_namespace, m], local.on_monitor)
    ] },
    { y = 14, x = 12, width = 6, title = "Lost beyond chance (fraction), and the interval of sensitivity", stat = "Maximum", period = 21600, metrics = [
      for m in ["AccuracyDrop", "SensitivityDrop", "SensitivityDropLow", "SensitivityDropHigh", "CoverageDrop"] : concat([var.metric_namespace, m], local.on_monitor)
    ] },
    { y = 14, x = 18, width = 6, title = "Bias violations", stat = "Maximum", period = 86400, metrics = [
      concat([var.metric_namespace, "BiasViolations"], local.on_monitor),
    ] },
    # Training progress
    { y = 28, x = 0, width = 8, title = "Retrainings", stat = "Sum", period = 3600, metrics = [
      for m in ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut"] : ["AWS/States", m, "StateMachineArn", var.machine_arn]
    ] },
    { y = 28, x = 8, width = 8, title = "Pipeline executions", stat = "Sum", period = 3600, metrics = [
      for m in ["ExecutionStarted", "ExecutionSucceeded", "ExecutionFailed"] : ["AWS/Sagemaker/ModelBuildingPipeline", m, "PipelineName", var.pipeline_name]
    ] },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = concat(
      [
        for y, title in { 0 = "Operational health", 13 = "Model performance", 20 = "Cost", 27 = "Training progress" } : {
          type              = "text", x = 0, y = tonumber(y), width = 24, height = 1, properties = { markdown = "## ${title}" }
        }
      ],
      [
        for c in local.charts : {
          type       = "metric", x = c.x, y = c.y, width = c.width, height = 6
          properties = { title = c.title, region = local.region, view = "timeSeries", stat = c.stat, period = c.period, metrics = c.metrics }
        }
      ],
      [
        {
          # Billing metrics exist in us-east-1 alone, whatever the region of the rest.
          type = "metric", x = 0, y = 21, width = 16, height = 6
          properties = {
            title = "Estimated charges of the account this month (USD)", region = "us-east-1", view = "timeSeries", stat = "Maximum", period = 21600
            metrics = [
              for s in ["AmazonSageMaker", "AmazonS3", "AWSLambda", "AmazonCloudWatch", "AWSKeyManagementService"] : ["AWS/Billing", "EstimatedCharges", "ServiceName", s, "Currency", "USD"]
            ]
          }
        },
        {
          type       = "text", x = 16, y = 21, width = 8, height = 6
          properties = { markdown = "Budget **${var.name}-monthly-cost**: ${var.limits.monthly_cost_usd} USD a month for everything tagged `Project = ${var.name}`; beyond it, a message goes to the topic." }
        },
        {
          type       = "alarm", x = 16, y = 28, width = 8, height = 6
          properties = { title = "Alarms", alarms = [for a in aws_cloudwatch_metric_alarm.this : a.arn] }
        },
        {
          type = "log", x = 0, y = 34, width = 24, height = 6
          properties = {
            title = "Failed training jobs", region = local.region, view = "table"
            query = "SOURCE '${aws_cloudwatch_log_group.training.name}' | fields @timestamp, detail.TrainingJobName, detail.FailureReason | sort @timestamp desc | limit 20"
          }
        },
      ],
    )
  })
}
