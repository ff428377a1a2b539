data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account_id = data.aws_caller_identity.this.account_id
  partition  = data.aws_partition.this.partition
  region     = data.aws_region.this.name

  # Everything but the logs, whose writers (S3 access logging, load balancers) refuse a bucket encrypted with a KMS key.
  data_buckets = toset(["raw", "processed", "models"])
  versioned    = toset(["raw", "models", "logs"])
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_144:Replication is the toggle replica_region, for raw and models; the rest can be made again
  #checkov:skip=CKV_AWS_145:Data buckets use our key; the logs bucket cannot, see aws_s3_bucket_server_side_encryption_configuration.logs
  #checkov:skip=CKV_AWS_18:The logs bucket is where access logs go; logging itself into itself would never end
  #checkov:skip=CKV_AWS_21:Processed data is made again from raw data and is not versioned; the others are
  #checkov:skip=CKV2_AWS_61:Every bucket has one, in aws_s3_bucket_lifecycle_configuration.this; checkov does not follow for_each
  #checkov:skip=CKV2_AWS_62:Retraining starts on a schedule, on drift or on request, never on a single upload; no notification is wanted
  for_each = var.bucket_names

  bucket        = each.value
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = aws_s3_bucket.this

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.versioned

  bucket = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.data_buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# Not our key, and not by choice: server access logging delivers only into a bucket whose default encryption is SSE-S3 (S3
# User Guide, "Enabling Amazon S3 server access logging"), and so do load balancers ("Access logs for your Application Load
# Balancer", step 1). Neither reports what it drops. CloudTrail encrypts its own files in this bucket with our key.
resource "aws_s3_bucket_server_side_encryption_configuration" "logs" {
  bucket = aws_s3_bucket.this["logs"].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_logging" "this" {
  for_each = local.data_buckets

  bucket        = aws_s3_bucket.this[each.key].id
  target_bucket = aws_s3_bucket.this["logs"].id
  target_prefix = "access/${each.key}/"

  depends_on = [aws_s3_bucket_policy.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  #checkov:skip=CKV_AWS_300:Every rule below has it; checkov does not expand dynamic rules
  for_each = local.lifecycle_rules

  bucket = aws_s3_bucket.this[each.key].id

  dynamic "rule" {
    for_each = each.value

    content {
      id     = rule.key
      status = "Enabled"

      filter {
        prefix = rule.value.prefix
      }

      abort_incomplete_multipart_upload {
        days_after_initiation = 7
      }

      dynamic "transition" {
        for_each = rule.value.tiering ? [true] : []

        content {
          days          = 0
          storage_class = "INTELLIGENT_TIERING"
        }
      }

      dynamic "expiration" {
        for_each = rule.value.expire_days == null ? [] : [rule.value.expire_days]

        content {
          days = expiration.value
        }
      }

      dynamic "noncurrent_version_expiration" {
        for_each = rule.value.noncurrent_days == null ? [] : [rule.value.noncurrent_days]

        content {
          noncurrent_days = noncurrent_version_expiration.value
        }
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

locals {
  keep = { prefix = "", tiering = true, expire_days = null, noncurrent_days = var.noncurrent_days }

  lifecycle_rules = {
    raw = { all = local.keep }
    processed = {
      runs    = { prefix = "runs/", tiering = true, expire_days = var.processed_days, noncurrent_days = null }
      capture = { prefix = "capture/", tiering = true, expire_days = var.capture_days, noncurrent_days = null }
      monitor = { prefix = "monitor/", tiering = true, expire_days = var.processed_days, noncurrent_days = null }
    }
    models = {
      all         = local.keep
      checkpoints = { prefix = "checkpoints/", tiering = false, expire_days = 30, noncurrent_days = 7 }
    }
    logs = {
      access     = { prefix = "access/", tiering = false, expire_days = var.logs_days, noncurrent_days = 1 }
      balancer   = { prefix = "balancer/", tiering = false, expire_days = var.logs_days, noncurrent_days = 1 }
      cloudtrail = { prefix = "cloudtrail/", tiering = false, expire_days = var.trail_days, noncurrent_days = 30 }
    }
  }
}

data "aws_iam_policy_document" "bucket" {
  for_each = var.bucket_names

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this[each.key].arn, "${aws_s3_bucket.this[each.key].arn}/*"]

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

  statement {
    sid       = "ModernTlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this[each.key].arn, "${aws_s3_bucket.this[each.key].arn}/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "NumericLessThan"
      variable = "s3:TlsVersion"
      values   = ["1.2"]
    }
  }

  # An upload that names no encryption gets the bucket's default, our key; one that names another is refused.
  dynamic "statement" {
    for_each = contains(local.data_buckets, each.key) ? {
      KmsOnly    = { variable = "s3:x-amz-server-side-encryption", value = "aws:kms" }
      OurKeyOnly = { variable = "s3:x-amz-server-side-encryption-aws-kms-key-id", value = var.kms_key_arn }
    } : {}

    content {
      sid       = statement.key
      effect    = "Deny"
      actions   = ["s3:PutObject"]
      resources = ["${aws_s3_bucket.this[each.key].arn}/*"]

      principals {
        type        = "AWS"
        identifiers = ["*"]
      }

      condition {
        test     = "StringNotEquals"
        variable = statement.value.variable
        values   = [statement.value.value]
      }

      # A negated condition also holds where there is no header at all.
      condition {
        test     = "Null"
        variable = statement.value.variable
        values   = ["false"]
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "logs" ? local.data_buckets : []

    content {
      sid       = "AccessLogsOf${title(statement.key)}"
      actions   = ["s3:PutObject"]
      resources = ["${aws_s3_bucket.this["logs"].arn}/access/${statement.key}/*"]

      principals {
        type        = "Service"
        identifiers = ["logging.s3.amazonaws.com"]
      }

      condition {
        test     = "ArnEquals"
        variable = "aws:SourceArn"
        values   = [aws_s3_bucket.this[statement.key].arn]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account_id]
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "logs" ? [true] : []

    content {
      sid       = "BalancerLogs"
      actions   = ["s3:PutObject"]
      resources = ["${aws_s3_bucket.this["logs"].arn}/balancer/AWSLogs/${local.account_id}/*"]

      principals {
        type        = "Service"
        identifiers = ["logdelivery.elasticloadbalancing.amazonaws.com"]
      }

      condition {
        test     = "ArnLike"
        variable = "aws:SourceArn"
        values   = ["arn:${local.partition}:elasticloadbalancing:${local.region}:${local.account_id}:loadbalancer/*"]
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "logs" ? [true] : []

    content {
      sid       = "TrailReadsAcl"
      actions   = ["s3:GetBucketAcl"]
      resources = [aws_s3_bucket.this["logs"].arn]

      principals {
        type        = "Service"
        identifiers = ["cloudtrail.amazonaws.com"]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:SourceArn"
        values   = [local.trail_arn]
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "logs" ? [true] : []

    content {
      sid       = "TrailWrites"
      actions   = ["s3:PutObject"]
      resources = ["${aws_s3_bucket.this["logs"].arn}/cloudtrail/AWSLogs/${local.account_id}/*"]

      principals {
        type        = "Service"
        identifiers = ["cloudtrail.amazonaws.com"]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:SourceArn"
        values   = [local.trail_arn]
      }

      condition {
        test     = "StringEquals"
        variable = "s3:x-amz-acl"
        values   = ["bucket-owner-full-control"]
      }
    }
  }
}

# SageMaker refuses a job with an input that holds no object; these stand for "no weights file", "no table of classes" and
# "nothing has been in test so far".
resource "aws_s3_object" "none" {
  for_each = {
    weights = "The pipeline's parameter Weights is not `file`: nothing is read from here."
    classes = "The pipeline's parameter Classes is not `file`: nothing is read from here."
    tested  = "Beside this folder the pipeline notes which pictures were in test, so that no later run trains on them."
  }

  bucket  = aws_s3_bucket.this["models"].id
  key     = "${each.key}/none/empty"
  content = "${each.value}\n"

  kms_key_id = var.kms_key_arn

  depends_on = [aws_s3_bucket_policy.this, aws_s3_bucket_server_side_encryption_configuration.this]
}

locals {
  trail_arn = "arn:${local.partition}:cloudtrail:${local.region}:${local.account_id}:trail/${var.trail_name}"
}

resource "aws_s3_bucket_policy" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id
  policy = data.aws_iam_policy_document.bucket[each.key].json

  depends_on = [aws_s3_bucket_public_access_block.this]
}
