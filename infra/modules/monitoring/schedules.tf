# The monitors are processing jobs that run the training image, one started by each schedule. They fetch the captures of
# their window, the baseline of the version that serves and the diagnoses known by now, write Model Monitor's files under
# monitor/, and publish the metrics the alarms watch. They have no inputs of their own: a job with an empty one fails.

resource "aws_scheduler_schedule_group" "this" {
  name = "${var.name}-monitor"
}

resource "aws_scheduler_schedule" "this" {
  for_each = var.monitors

  name                         = "${var.name}-${each.key}"
  description                  = each.value.description
  group_name                   = aws_scheduler_schedule_group.this.name
  schedule_expression          = each.value.schedule
  schedule_expression_timezone = "UTC"
  state                        = var.enable_schedules ? "ENABLED" : "DISABLED"
  kms_key_arn                  = var.kms_key_arn

  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 10
  }

  target {
    arn      = "arn:${local.partition}:scheduler:::aws-sdk:sagemaker:createProcessingJob"
    role_arn = var.events_role_arn

    # <aws.scheduler.execution-id> and <aws.scheduler.scheduled-time> are replaced by the scheduler: every run has a name of
    # its own, and every window ends where the next begins.
    input = replace(replace(jsonencode(local.jobs[each.key]), "\\u003c", "<"), "\\u003e", ">")

    retry_policy {
      maximum_event_age_in_seconds = 1800
      maximum_retry_attempts       = 5
    }

    dead_letter_config {
      arn = var.queue_arn
    }
  }
}

locals {
  jobs = {
    for kind, m in var.monitors : kind => {
      ProcessingJobName = "${var.name}-${kind}-<aws.scheduler.execution-id>"
      RoleArn           = var.sagemaker_role_arn
      AppSpecification = {
        ImageUri            = var.image_uri
        ContainerEntrypoint = ["python3", "-m", "skin_lesion_mlops.aws.watch"]
        ContainerArguments = [
          replace(kind, "-", "_"), "--endpoint", var.endpoint_name, "--out", "/opt/ml/processing/report",
          "--capture", "s3://${var.processed_bucket}/capture", "--labels", "s3://${var.processed_bucket}/monitor/labels",
          "--until", "<aws.scheduler.scheduled-time>",
        ]
      }
      Environment = { AWS_DEFAULT_REGION = local.region, METRIC_NAMESPACE = var.metric_namespace }
      ProcessingOutputConfig = {
        KmsKeyId = var.kms_key_arn
        Outputs = [{
          OutputName = "report"
          S3Output = {
            S3Uri        = "s3://${var.processed_bucket}/monitor/${kind}/<aws.scheduler.scheduled-time>"
            LocalPath    = "/opt/ml/processing/report"
            S3UploadMode = "EndOfJob"
          }
        }]
      }
      ProcessingResources = {
        ClusterConfig = { for k, v in {
          InstanceCount  = 1
          InstanceType   = var.instance_type
          VolumeSizeInGB = 30
          VolumeKmsKeyId = var.volume_key ? var.kms_key_arn : null
        } : k => v if v != null }
      }
      StoppingCondition = { MaxRuntimeInSeconds = 3000 }
      Tags              = [{ Key = "Project", Value = var.name }]
      # A monitor publishes its metrics itself, over the VPC's endpoints: no isolation inside its container.
      NetworkConfig = { for k, v in {
        EnableNetworkIsolation                = false
        EnableInterContainerTrafficEncryption = true
        VpcConfig                             = var.enable_vpc ? { Subnets = var.subnet_ids, SecurityGroupIds = var.security_group_ids } : null
      } : k => v if v != null }
    }
  }
}

# For accounts that still have SageMaker Model Monitor (closed to new ones): its own hourly data-quality schedule.
resource "aws_sagemaker_data_quality_job_definition" "native" {
  count = var.native_monitor == null ? 0 : 1

  name     = "${var.name}-data-quality-native"
  role_arn = var.sagemaker_role_arn

  data_quality_app_specification {
    image_uri = var.native_monitor.analyzer_image
  }

  data_quality_job_input {
    endpoint_input {
      endpoint_name = var.endpoint_name
    }
  }

  data_quality_job_output_config {
    kms_key_id = var.kms_key_arn

    monitoring_outputs {
      s3_output {
        s3_uri = "s3://${var.processed_bucket}/monitor/native"
      }
    }
  }

  network_config {
    enable_inter_container_traffic_encryption = true
  }

  job_resources {
    cluster_config {
      instance_count    = 1
      instance_type     = var.instance_type
      volume_size_in_gb = 30
      volume_kms_key_id = var.kms_key_arn
    }
  }
}

resource "aws_sagemaker_monitoring_schedule" "native" {
  count = var.native_monitor == null ? 0 : 1

  name = "${var.name}-data-quality-native"

  monitoring_schedule_config {
    monitoring_job_definition_name = aws_sagemaker_data_quality_job_definition.native[0].name
    monitoring_type                = "DataQuality"

    schedule_config {
      schedule_expression = "cron(0 * ? * * *)"
    }
  }
}
