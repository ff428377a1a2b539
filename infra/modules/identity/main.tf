# Four kinds of role: SageMaker, Lambda (one for each function), Step Functions, EventBridge.
# Names and ARNs come in ready-made, so that roles can be made before what they give access to.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account_id = data.aws_caller_identity.this.account_id
  partition  = data.aws_partition.this.partition
  region     = data.aws_region.this.name
  sagemaker  = "arn:${local.partition}:sagemaker:${local.region}:${local.account_id}"
  logs       = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group"

  package_group = "${local.sagemaker}:model-package-group/${var.model_package_group}"
  packages      = "${local.sagemaker}:model-package/${var.model_package_group}/*"
  # ListModelPackages takes no group's ARN, and which of its versions' it is asked with is not documented.
  all_packages = "${local.sagemaker}:model-package/*"
  pipeline     = "${local.sagemaker}:pipeline/${var.pipeline_name}"
}

# Who may assume what. Lambda and API Gateway are not documented to send aws:SourceAccount, so there the condition holds
# if the key is present; nobody can pass a role of this account to a service of another.
data "aws_iam_policy_document" "trust" {
  for_each = {
    sagemaker     = { services = ["sagemaker.amazonaws.com"], test = "StringEquals" }
    lambda        = { services = ["lambda.amazonaws.com"], test = "StringEqualsIfExists" }
    state_machine = { services = ["states.amazonaws.com"], test = "StringEquals" }
    events        = { services = ["events.amazonaws.com", "scheduler.amazonaws.com"], test = "StringEquals" }
    api           = { services = ["apigateway.amazonaws.com"], test = "StringEqualsIfExists" }
  }

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = each.value.services
    }

    condition {
      test     = each.value.test
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

data "aws_iam_policy_document" "events_trust" {
  source_policy_documents = [data.aws_iam_policy_document.trust["events"].json, data.aws_iam_policy_document.trust["api"].json]
}

# ---- SageMaker: what the pipeline, its jobs, the monitors and the endpoint do

data "aws_iam_policy_document" "sagemaker" {
  statement {
    sid       = "ListBuckets"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [for k in ["raw", "processed", "models"] : var.bucket_arns[k]]
  }

  statement {
    sid       = "ReadData"
    actions   = ["s3:GetObject"]
    resources = [for k in ["raw", "processed", "models"] : "${var.bucket_arns[k]}/*"]
  }

  statement {
    sid       = "WriteResults"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
    resources = [for k in ["processed", "models"] : "${var.bucket_arns[k]}/*"]
  }

  # A resumed spot training replaces its own checkpoints.
  statement {
    sid       = "ReplaceCheckpoints"
    actions   = ["s3:DeleteObject"]
    resources = ["${var.bucket_arns["models"]}/checkpoints/*"]
  }

  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"]
    resources = [var.kms_key_arn]
  }

  # Encrypted volumes: SageMaker passes the key on to EBS, and to nobody else.
  statement {
    sid       = "EncryptVolumes"
    actions   = ["kms:CreateGrant"]
    resources = [var.kms_key_arn]

    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }
  }

  # This action names no resource.
  statement {
    sid       = "SignInToImages"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "PullImages"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = var.repository_arns
  }

  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = ["${local.logs}:/aws/sagemaker/*"]
  }

  # This action names no resource either; the namespace bounds it.
  statement {
    sid       = "PublishMetrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = [var.metric_namespace, "/aws/sagemaker/TrainingJobs", "/aws/sagemaker/ProcessingJobs", "/aws/sagemaker/Endpoints"]
    }
  }

  statement {
    sid = "RunPipelineSteps"
    actions = [
      "sagemaker:AddTags",
      "sagemaker:CreateProcessingJob", "sagemaker:DescribeProcessingJob", "sagemaker:StopProcessingJob",
      "sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob",
    ]
    resources = ["${local.sagemaker}:processing-job/pipelines-*", "${local.sagemaker}:training-job/pipelines-*"]
  }

  statement {
    sid       = "RegisterModels"
    actions   = ["sagemaker:AddTags", "sagemaker:CreateModelPackage", "sagemaker:DescribeModelPackage"]
    resources = [local.package_group, local.packages]
  }

  # A monitor compares with the baseline of the version that serves.
  statement {
    sid       = "SeeWhatServes"
    actions   = ["sagemaker:DescribeEndpoint", "sagemaker:DescribeEndpointConfig", "sagemaker:DescribeModel"]
    resources = [local.endpoint, local.endpoint_config, local.model]
  }

  # A deployment that alarms may take back looks at them as the endpoint's role.
  statement {
    sid       = "SeeRollbackAlarms"
    actions   = ["cloudwatch:DescribeAlarms"]
    resources = [for a in var.rollback_alarms : "arn:${local.partition}:cloudwatch:${local.region}:${local.account_id}:alarm:${a}"]
  }

  statement {
    sid       = "FindGroup"
    actions   = ["sagemaker:DescribeModelPackageGroup"]
    resources = [local.package_group]
  }

  statement {
    sid       = "RunJobsUnderThisRole"
    actions   = ["iam:PassRole"]
    resources = [local.sagemaker_role_arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["sagemaker.amazonaws.com"]
    }
  }

  dynamic "statement" {
    for_each = var.enable_vpc ? [true] : []

    content {
      sid       = "DescribeNetwork"
      actions   = ["ec2:DescribeDhcpOptions", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = var.enable_vpc ? [true] : []

    content {
      sid       = "JoinNetwork"
      actions   = ["ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface", "ec2:DeleteNetworkInterfacePermission"]
      resources = [for kind in ["network-interface", "security-group", "subnet"] : "arn:${local.partition}:ec2:${local.region}:${local.account_id}:${kind}/*"]
    }
  }
}

locals {
  sagemaker_role_arn = "arn:${local.partition}:iam::${local.account_id}:role/${var.name}-sagemaker"
}

resource "aws_iam_role" "sagemaker" {
  name                 = "${var.name}-sagemaker"
  description          = "Pipeline, jobs, monitors and endpoint"
  assume_role_policy   = data.aws_iam_policy_document.trust["sagemaker"].json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_role_policy" "sagemaker" {
  name   = "work"
  role   = aws_iam_role.sagemaker.id
  policy = data.aws_iam_policy_document.sagemaker.json
}

# ---- Step Functions

data "aws_iam_policy_document" "state_machine" {
  statement {
    sid       = "InvokeFunctions"
    actions   = ["lambda:InvokeFunction"]
    resources = [for verb in var.machine_verbs : var.function_arns[verb]]
  }

  statement {
    sid       = "StartPipeline"
    actions   = ["sagemaker:StartPipelineExecution"]
    resources = [local.pipeline]
  }

  statement {
    sid       = "StopPipeline"
    actions   = ["sagemaker:StopPipelineExecution"]
    resources = ["${local.pipeline}/execution/*"]
  }

  statement {
    sid       = "Notify"
    actions   = ["sns:Publish"]
    resources = [var.topic_arn]
  }

  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }

  # Change records: written once, never read back or replaced by the machine.
  statement {
    sid       = "KeepChangeRecords"
    actions   = ["s3:PutObject"]
    resources = ["${var.bucket_arns["models"]}/changes/*"]
  }

  # None of these actions names a resource.
  statement {
    sid = "DeliverLogsAndTraces"
    actions = [
      "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
      "xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role" "state_machine" {
  name                 = "${var.name}-state-machine"
  description          = "The retraining machine"
  assume_role_policy   = data.aws_iam_policy_document.trust["state_machine"].json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_role_policy" "state_machine" {
  name   = "work"
  role   = aws_iam_role.state_machine.id
  policy = data.aws_iam_policy_document.state_machine.json
}

# ---- EventBridge: rules and API start the machine, schedules start the monitors

data "aws_iam_policy_document" "events" {
  statement {
    sid       = "StartRetraining"
    actions   = ["states:StartExecution"]
    resources = [var.machine_arn]
  }

  statement {
    sid       = "StartMonitors"
    actions   = ["sagemaker:AddTags", "sagemaker:CreateProcessingJob"]
    resources = [for kind in var.monitor_kinds : "${local.sagemaker}:processing-job/${var.name}-${kind}-*"]
  }

  statement {
    sid       = "RunMonitorsAsSageMaker"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.sagemaker.arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["sagemaker.amazonaws.com"]
    }
  }

  statement {
    sid       = "ReportUndelivered"
    actions   = ["sqs:SendMessage"]
    resources = [var.queue_arn]
  }

  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
}

resource "aws_iam_role" "events" {
  name                 = "${var.name}-events"
  description          = "Rules, schedules and the API start the machine and the monitors"
  assume_role_policy   = data.aws_iam_policy_document.events_trust.json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_role_policy" "events" {
  name   = "start"
  role   = aws_iam_role.events.id
  policy = data.aws_iam_policy_document.events.json
}
