# One role for each function: exactly what its handler calls, and what Lambda does in its name.

locals {
  endpoint        = "${local.sagemaker}:endpoint/${var.endpoint_name}"
  endpoint_config = "${local.sagemaker}:endpoint-config/${var.endpoint_name}-*"
  model           = "${local.sagemaker}:model/${var.endpoint_name}-*"

  # Verb -> statements; a statement is {actions, resources} and, for PassRole, the service it may be passed to.
  calls = {
    check_data_availability = {
      ListData     = { actions = ["s3:ListBucket"], resources = [for k in ["raw", "processed", "models"] : var.bucket_arns[k]] }
      ReadData     = { actions = ["s3:GetObject"], resources = ["${var.bucket_arns["raw"]}/*", "${var.bucket_arns["processed"]}/retraining/*", "${var.bucket_arns["models"]}/runs/*"] }
      TakeTurn     = { actions = ["s3:PutObject"], resources = ["${var.bucket_arns["processed"]}/retraining/lock.json"] }
      UseKey       = { actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [var.kms_key_arn] }
      SeeTurn      = { actions = ["states:DescribeExecution"], resources = ["${replace(var.machine_arn, ":stateMachine:", ":execution:")}:*"] }
      ListVersions = { actions = ["sagemaker:ListModelPackages"], resources = [local.all_packages] }
      ReadVersions = { actions = ["sagemaker:DescribeModelPackage"], resources = [local.packages] }
    }
    check_pipeline_status = {
      ReadExecution = { actions = ["sagemaker:DescribePipelineExecution", "sagemaker:ListPipelineExecutionSteps"], resources = ["${local.pipeline}/execution/*"] }
    }
    evaluate_model = {
      ListResults  = { actions = ["s3:ListBucket"], resources = [var.bucket_arns["models"]] }
      ReadResults  = { actions = ["s3:GetObject"], resources = ["${var.bucket_arns["models"]}/runs/*"] }
      UseKey       = { actions = ["kms:Decrypt"], resources = [var.kms_key_arn] }
      ListVersions = { actions = ["sagemaker:ListModelPackages"], resources = [local.all_packages] }
      ReadVersions = { actions = ["sagemaker:DescribeModelPackage"], resources = [local.packages] }
    }
    approve_model = {
      ListResults = { actions = ["s3:ListBucket"], resources = [var.bucket_arns["models"]] }
      ReadResults = { actions = ["s3:GetObject"], resources = ["${var.bucket_arns["models"]}/runs/*"] }
      UseKey      = { actions = ["kms:Decrypt"], resources = [var.kms_key_arn] }
      Approve     = { actions = ["sagemaker:DescribeModelPackage", "sagemaker:UpdateModelPackage"], resources = [local.packages] }
    }
    deploy_model = {
      ReadVersion = { actions = ["sagemaker:DescribeModelPackage"], resources = [local.packages] }
      # A model of a registered version may be checked against that version, too: of that, the reference says nothing.
      MakeModel  = { actions = ["sagemaker:CreateModel"], resources = [local.model, local.packages] }
      SeeModel   = { actions = ["sagemaker:DescribeModel", "sagemaker:DeleteModel"], resources = [local.model] }
      MakeConfig = { actions = ["sagemaker:CreateEndpointConfig", "sagemaker:DescribeEndpointConfig", "sagemaker:DeleteEndpointConfig"], resources = [local.endpoint_config] }
      # Creating or updating an endpoint is checked against the endpoint and its configuration.
      MoveEndpoint = { actions = ["sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"], resources = [local.endpoint, local.endpoint_config] }
      SeeEndpoint  = { actions = ["sagemaker:DescribeEndpoint", "sagemaker:DeleteEndpoint", "sagemaker:InvokeEndpoint"], resources = [local.endpoint] }
      Scale = {
        actions   = ["application-autoscaling:RegisterScalableTarget", "application-autoscaling:PutScalingPolicy"]
        resources = ["arn:${local.partition}:application-autoscaling:${local.region}:${local.account_id}:scalable-target/*"]
      }
      QuietAlarm = { actions = ["cloudwatch:PutMetricAlarm"], resources = ["arn:${local.partition}:cloudwatch:${local.region}:${local.account_id}:alarm:${var.endpoint_name}-*"] }
      RunAs      = { actions = ["iam:PassRole"], resources = [local.sagemaker_role_arn], passed_to = "sagemaker.amazonaws.com" }
    }
    slack_notifier = {
      ReadWebhook = { actions = ["secretsmanager:GetSecretValue"], resources = [var.slack_secret_arn == null ? "arn:${local.partition}:secretsmanager:${local.region}:${local.account_id}:secret:${var.name}/slack-webhook-??????" : var.slack_secret_arn] }
      UseKey      = { actions = ["kms:Decrypt"], resources = [var.kms_key_arn] }
    }
    predict = {
      Ask = { actions = ["sagemaker:InvokeEndpoint"], resources = [local.endpoint] }
    }
  }

  # What a service does in the caller's name during such a call, so the caller must be allowed to.
  on_behalf = {
    deploy_model = {
      # Application Auto Scaling makes its own role the first time an account uses it.
      FirstScaling = {
        actions   = ["iam:CreateServiceLinkedRole"]
        resources = ["arn:${local.partition}:iam::${local.account_id}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"]
      }
      # Changing the fleet and the alarms of a scaling policy is checked against who registers it.
      ChangeFleet = { actions = ["sagemaker:UpdateEndpointWeightsAndCapacities"], resources = [local.endpoint] }
      ScalingAlarms = {
        actions   = ["cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms", "cloudwatch:DeleteAlarms"]
        resources = ["arn:${local.partition}:cloudwatch:${local.region}:${local.account_id}:alarm:TargetTracking-endpoint/${var.endpoint_name}/*"]
      }
      # What is created with tags is tagged in the caller's name.
      Tag = { actions = ["sagemaker:AddTags"], resources = [local.endpoint, local.endpoint_config, local.model] }
      # An encrypted endpoint volume: SageMaker makes the grant in the caller's name.
      EncryptVolumes = { actions = ["kms:CreateGrant", "kms:DescribeKey"], resources = [var.kms_key_arn] }
    }
  }

  verbs = toset(keys(var.function_arns))
}

data "aws_iam_policy_document" "function" {
  for_each = local.verbs

  dynamic "statement" {
    for_each = local.calls[each.key]

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = statement.value.resources

      dynamic "condition" {
        for_each = try([statement.value.passed_to], [])

        content {
          test     = "StringEquals"
          variable = "iam:PassedToService"
          values   = [condition.value]
        }
      }
    }
  }
}

# What the Lambda service does in a function's name.
data "aws_iam_policy_document" "runtime" {
  for_each = local.verbs

  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.logs}:/aws/lambda/${reverse(split(":", var.function_arns[each.key]))[0]}:*"]
  }

  statement {
    sid       = "KeepUndelivered"
    actions   = ["sqs:SendMessage"]
    resources = [var.queue_arn]
  }

  statement {
    sid       = "DecryptEnvironment"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }

  # These actions name no resource.
  statement {
    sid       = "Trace"
    actions   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = lookup(local.on_behalf, each.key, {})

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }

  dynamic "statement" {
    for_each = var.enable_vpc && !contains(var.verbs_outside_vpc, each.key) ? [true] : []

    content {
      sid       = "SeeNetwork"
      actions   = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = var.enable_vpc && !contains(var.verbs_outside_vpc, each.key) ? [true] : []

    content {
      sid = "JoinNetwork"
      actions = [
        "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:UnassignPrivateIpAddresses",
      ]
      resources = [for kind in ["network-interface", "security-group", "subnet"] : "arn:${local.partition}:ec2:${local.region}:${local.account_id}:${kind}/*"]
    }
  }
}

resource "aws_iam_role" "function" {
  for_each = local.verbs

  name                 = "${var.name}-${replace(each.key, "_", "-")}"
  description          = "Function ${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.trust["lambda"].json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_role_policy" "function" {
  for_each = local.verbs

  name   = "calls"
  role   = aws_iam_role.function[each.key].id
  policy = data.aws_iam_policy_document.function[each.key].json
}

resource "aws_iam_role_policy" "runtime" {
  for_each = local.verbs

  name   = "runtime"
  role   = aws_iam_role.function[each.key].id
  policy = data.aws_iam_policy_document.runtime[each.key].json
}
