data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  names = { for verb in var.verbs : verb => "${var.name}-${replace(verb, "_", "-")}" }
  rules = "arn:${data.aws_partition.this.partition}:events:${data.aws_region.this.name}:${data.aws_caller_identity.this.account_id}:rule/${var.name}-*"
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338:Retention is the variable log_retention_days, six years in the HIPAA example
  for_each = local.names

  name              = "/aws/lambda/${each.value}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_272:The zip is built reproducibly from this repository; source_code_hash pins its bytes
  #checkov:skip=CKV_AWS_115:Concurrency is reserved where two at once would do harm; reserving it everywhere starves the account
  #checkov:skip=CKV_AWS_117:In the VPC whenever there is one; slack_notifier stays outside, Slack is on the internet
  #checkov:skip=CKV_AWS_173:kms_key_arn is set below; checkov does not follow it
  for_each = var.functions

  function_name = local.names[each.key]
  description   = each.value.description
  role          = var.role_arns[each.key]
  runtime       = "python3.11"
  handler       = "handler.handler"
  architectures = ["x86_64"]
  memory_size   = each.value.memory_mb
  timeout       = each.value.timeout_s
  kms_key_arn   = var.kms_key_arn

  filename         = "${var.zip_folder}/${each.key}.zip"
  source_code_hash = fileexists("${var.zip_folder}/${each.key}.zip") ? filebase64sha256("${var.zip_folder}/${each.key}.zip") : null

  reserved_concurrent_executions = var.reserve_concurrency ? each.value.concurrency : -1

  environment {
    variables = merge(var.environment, each.value.environment)
  }

  dead_letter_config {
    target_arn = aws_sqs_queue.this.arn
  }

  tracing_config {
    mode = "Active"
  }

  dynamic "vpc_config" {
    for_each = var.enable_vpc && each.value.in_vpc ? [true] : []

    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = var.security_group_ids
    }
  }

  lifecycle {
    precondition {
      condition     = fileexists("${var.zip_folder}/${each.key}.zip")
      error_message = "There is no ${var.zip_folder}/${each.key}.zip: run `make lambdas` first."
    }
  }

  depends_on = [aws_cloudwatch_log_group.this]
}

# What could not be delivered or handled, kept two weeks for a person to look at.
resource "aws_sqs_queue" "this" {
  name                              = "${var.name}-undelivered"
  message_retention_seconds         = 14 * 24 * 3600
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = 3600
}

data "aws_iam_policy_document" "queue" {
  statement {
    sid       = "Rules"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.this.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = [local.rules]
    }
  }

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.this.arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "this" {
  queue_url = aws_sqs_queue.this.id
  policy    = data.aws_iam_policy_document.queue.json
}
