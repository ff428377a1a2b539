# The whole AWS side. Read from the top: names, then the modules in the order in which they need each other.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}

locals {
  account_id = data.aws_caller_identity.this.account_id
  partition  = data.aws_partition.this.partition
  tags       = merge({ Project = var.name, Environment = var.environment, ManagedBy = "terraform" }, var.tags)

  # Names. Roles, key and topic are given access to things by name, so that nothing has to be made twice.
  suffix        = coalesce(var.bucket_suffix, local.account_id)
  bucket_names  = { for k, n in { raw = "raw", processed = "processed", models = "models-artifacts", logs = "logs" } : k => "${var.name}-${n}-${local.suffix}" }
  replica_names = { for k in ["raw", "models"] : k => "${var.name}-${k}-replica-${local.suffix}" }
  bucket_arns   = { for k, n in local.bucket_names : k => "arn:${local.partition}:s3:::${n}" }
  trail_name    = var.name
  topic_name    = "${var.name}-alerts"
  topic_arn     = "arn:${local.partition}:sns:${var.region}:${local.account_id}:${local.topic_name}"
  machine_name  = "${var.name}-retraining"
  machine_arn   = "arn:${local.partition}:states:${var.region}:${local.account_id}:stateMachine:${local.machine_name}"
  queue_arn     = "arn:${local.partition}:sqs:${var.region}:${local.account_id}:${var.name}-undelivered"
  pipeline_name = "${var.name}-training"
  package_group = "${var.name}-models"
  endpoint_name = "${var.name}-endpoint"
  platform_name = "/${var.name}/platform"

  machine_verbs = ["check_data_availability", "check_pipeline_status", "evaluate_model", "approve_model", "deploy_model"]
  verbs         = concat(local.machine_verbs, var.enable_slack ? ["slack_notifier"] : [], var.enable_alb ? ["predict"] : [])
  function_arns = { for v in local.verbs : v => "arn:${local.partition}:lambda:${var.region}:${local.account_id}:function:${var.name}-${replace(v, "_", "-")}" }

  images = { for k, url in module.images.repository_urls : k => "${url}:${var.image_tag}" }

  subnet_ids         = var.enable_vpc ? module.network[0].private_subnet_ids : []
  security_group_ids = var.enable_vpc ? [module.network[0].security_group_id] : []

  # Machines with disks of their own encrypt these in hardware, and SageMaker refuses a key for them.
  own_disk    = "^ml\\.(g4dn|g5|g6e?|p4de?|p5e?n?|[cmr][0-9][ai]?g?d)\\."
  volume_keys = { Processing = !can(regex(local.own_disk, var.processing_instance_type)), Training = !can(regex(local.own_disk, var.training_instance_type)) }

  # The alarms that take a deployment back.
  rollback_alarms = ["${var.name}-rollback-errors", "${var.name}-rollback-latency"]

  # What the committed pipeline leaves to the account.
  pipeline_parameters = merge({
    RawBucket              = local.bucket_names["raw"]
    ProcessedBucket        = local.bucket_names["processed"]
    ModelsBucket           = local.bucket_names["models"]
    RoleArn                = module.identity.sagemaker_role_arn
    KmsKeyId               = module.keys.key_arn
    ProcessingImage        = local.images["processing"]
    TrainingImage          = local.images["training"]
    InferenceImage         = local.images["inference"]
    CodeVersion            = var.image_tag
    ProcessingInstanceType = var.processing_instance_type
    TrainingInstanceType   = var.training_instance_type
    VolumeSizeGB           = tostring(var.volume_size_gb)
    ModelPackageGroupName  = local.package_group
    Project                = var.name
  }, var.pipeline_parameters)
}

module "keys" {
  source = "./modules/keys"

  name                    = var.name
  alias                   = "${var.name}-classification-key"
  trail_name              = local.trail_name
  deletion_window_in_days = var.kms_deletion_window_in_days
  enable_slack            = var.enable_slack
  secret_recovery_days    = var.sandbox ? 0 : 30
}

module "storage" {
  source = "./modules/storage"

  providers = {
    aws         = aws
    aws.replica = aws.replica
  }

  permissions_boundary = var.permissions_boundary
  name                 = var.name
  bucket_names         = local.bucket_names
  replica_names        = local.replica_names
  kms_key_arn          = module.keys.key_arn
  trail_name           = local.trail_name
  force_destroy        = var.sandbox
  logs_days            = var.logs_bucket_days
  trail_days           = var.trail_days
  enable_replication   = var.replica_region != null
}

module "images" {
  source = "./modules/images"

  repositories         = { for k in ["processing", "training", "inference"] : k => "${var.name}-${k}" }
  kms_key_arn          = module.keys.key_arn
  image_tag_mutability = var.image_tag_mutability
  force_delete         = var.sandbox
}

module "network" {
  source = "./modules/network"
  count  = var.enable_vpc ? 1 : 0

  permissions_boundary  = var.permissions_boundary
  name                  = var.name
  vpc_cidr              = var.vpc_cidr
  private_subnet_cidrs  = var.private_subnet_cidrs
  public_subnet_cidrs   = var.public_subnet_cidrs
  enable_public_subnets = var.enable_alb
  kms_key_arn           = module.keys.key_arn
  log_retention_days    = var.log_retention_days
}

module "identity" {
  source = "./modules/identity"

  permissions_boundary = var.permissions_boundary
  name                 = var.name
  bucket_arns          = local.bucket_arns
  repository_arns      = values(module.images.repository_arns)
  kms_key_arn          = module.keys.key_arn
  topic_arn            = local.topic_arn
  machine_arn          = local.machine_arn
  queue_arn            = local.queue_arn
  pipeline_name        = local.pipeline_name
  model_package_group  = local.package_group
  endpoint_name        = local.endpoint_name
  rollback_alarms      = local.rollback_alarms
  metric_namespace     = var.metric_namespace
  monitor_kinds        = keys(var.monitors)
  function_arns        = local.function_arns
  machine_verbs        = local.machine_verbs
  slack_secret_arn     = module.keys.slack_secret_arn
  enable_vpc           = var.enable_vpc
  verbs_outside_vpc    = ["slack_notifier"]
}

module "notification" {
  source = "./modules/notification"

  name               = var.name
  topic_name         = local.topic_name
  kms_key_arn        = module.keys.key_arn
  emails             = var.alert_emails
  phone_numbers      = var.alert_phone_numbers
  enable_slack       = var.enable_slack
  slack_function_arn = lookup(module.functions.function_arns, "slack_notifier", null)
}

module "functions" {
  source = "./modules/functions"

  name                = var.name
  verbs               = local.verbs
  functions           = { for v in local.verbs : v => local.functions[v] }
  role_arns           = module.identity.function_role_arns
  environment         = { LOG_LEVEL = var.log_level }
  zip_folder          = var.lambda_zip_folder
  reserve_concurrency = var.reserve_concurrency
  kms_key_arn         = module.keys.key_arn
  log_retention_days  = var.log_retention_days
  enable_vpc          = var.enable_vpc
  subnet_ids          = local.subnet_ids
  security_group_ids  = local.security_group_ids
}

locals {
  functions = {
    check_data_availability = {
      description = "Are there enough new, intact samples to train again?"
      memory_mb   = 256
      timeout_s   = 60
      environment = {
        RAW_BUCKET          = local.bucket_names["raw"]
        PROCESSED_BUCKET    = local.bucket_names["processed"]
        MODEL_PACKAGE_GROUP = local.package_group
        MIN_NEW_SAMPLES     = tostring(var.min_new_samples)
        PIPELINE_PARAMETERS = jsonencode(local.pipeline_parameters)
      }
    }
    check_pipeline_status = {
      description = "Where the pipeline is, and why it failed"
      memory_mb   = 128
      timeout_s   = 30
      environment = { MODELS_BUCKET = local.bucket_names["models"] }
    }
    evaluate_model = {
      description = "What the evaluation decided about the new model"
      memory_mb   = 512
      timeout_s   = 30
      environment = { MODEL_PACKAGE_GROUP = local.package_group }
    }
    approve_model = {
      description = "Approves a version, or asks a person to"
      memory_mb   = 128
      timeout_s   = 30
      concurrency = 1
      environment = { APPROVAL_MODE = var.approval_mode }
    }
    deploy_model = {
      description = "Moves the endpoint to an approved version"
      memory_mb   = 256
      timeout_s   = 60
      concurrency = 1
      environment = {
        ROLE_ARN           = module.identity.sagemaker_role_arn
        CAPTURE_URI        = "s3://${local.bucket_names["processed"]}/capture"
        KMS_KEY_ID         = module.keys.key_arn
        ENDPOINT_NAME      = local.endpoint_name
        INSTANCE_TYPE      = var.inference_instance_type
        MIN_INSTANCES      = tostring(var.scaling.min)
        MAX_INSTANCES      = tostring(var.scaling.max)
        SCALE_OUT_ABOVE    = tostring(var.scaling.target)
        SCALE_IN_BELOW     = tostring(var.scaling.scale_in_below)
        ALARM_NAMES        = join(",", local.rollback_alarms)
        SUBNET_IDS         = join(",", local.subnet_ids)
        SECURITY_GROUP_IDS = join(",", local.security_group_ids)
        PROJECT            = var.name
      }
    }
    slack_notifier = {
      description = "Puts an alert into Slack"
      memory_mb   = 128
      timeout_s   = 15
      in_vpc      = false
      environment = { SLACK_SECRET_ARN = coalesce(module.keys.slack_secret_arn, "none") }
    }
    predict = {
      description = "From the load balancer to the endpoint"
      memory_mb   = 256
      timeout_s   = 65
      concurrency = 50
      environment = { ENDPOINT_NAME = local.endpoint_name }
    }
  }
}

module "models" {
  source = "./modules/models"

  pipeline_name       = local.pipeline_name
  pipeline_definition = var.pipeline_definition
  pipeline_parameters = local.pipeline_parameters
  role_arn            = module.identity.sagemaker_role_arn
  model_package_group = local.package_group
  endpoint_name       = local.endpoint_name
  own_job_logs        = var.own_job_logs
  volume_keys         = local.volume_keys
  enable_vpc          = var.enable_vpc
  subnet_ids          = local.subnet_ids
  security_group_ids  = local.security_group_ids
  kms_key_arn         = module.keys.key_arn
  log_retention_days  = var.log_retention_days
}

module "monitoring" {
  source = "./modules/monitoring"

  name             = var.name
  topic_arn        = module.notification.topic_arn
  endpoint_name    = local.endpoint_name
  metric_namespace = var.metric_namespace
  limits           = var.alarms

  enable_sensitivity_alarm = var.enable_sensitivity_alarm
  enable_bias_alarm        = var.enable_bias_alarm

  monitors           = var.monitors
  enable_schedules   = var.enable_monitors
  native_monitor     = var.native_monitor
  image_uri          = local.images["training"]
  instance_type      = var.processing_instance_type
  volume_key         = local.volume_keys["Processing"]
  processed_bucket   = local.bucket_names["processed"]
  sagemaker_role_arn = module.identity.sagemaker_role_arn
  events_role_arn    = module.identity.events_role_arn
  queue_arn          = module.functions.queue_arn
  queue_name         = module.functions.queue_name
  function_names     = values(module.functions.function_names)
  machine_arn        = local.machine_arn
  pipeline_name      = local.pipeline_name
  enable_vpc         = var.enable_vpc
  subnet_ids         = local.subnet_ids
  security_group_ids = local.security_group_ids
  kms_key_arn        = module.keys.key_arn
  log_retention_days = var.log_retention_days
}

module "orchestration" {
  source = "./modules/orchestration"

  machine_name        = local.machine_name
  machine_role_arn    = module.identity.state_machine_role_arn
  events_role_arn     = module.identity.events_role_arn
  definition          = var.state_machine_definition
  definition_values   = local.machine_values
  schedule_days       = var.retraining_days
  enable_schedule     = var.enable_retraining_schedule
  approval_mode       = var.approval_mode
  model_package_group = local.package_group
  drift_alarm_arns    = values(module.monitoring.event_alarm_arns)
  event_source        = var.name
  topic_arn           = module.notification.topic_arn
  queue_arn           = module.functions.queue_arn
  kms_key_arn         = module.keys.key_arn
  log_retention_days  = var.log_retention_days
}

locals {
  machine_values = merge({ for v in local.machine_verbs : "${v}_arn" => module.functions.function_arns[v] }, {
    topic_arn     = module.notification.topic_arn
    pipeline_name = module.models.pipeline_name
    models_bucket = local.bucket_names["models"]
    kms_key_arn   = module.keys.key_arn
  })
}

module "entry" {
  source = "./modules/entry"
  count  = var.enable_alb ? 1 : 0

  name                = var.name
  vpc_id              = module.network[0].vpc_id
  public_subnet_ids   = module.network[0].public_subnet_ids
  allowed_cidrs       = var.allowed_cidrs
  certificate_arn     = var.certificate_arn
  host_name           = var.host_name
  auth_domain_prefix  = coalesce(var.auth_domain_prefix, "${var.name}-${local.suffix}")
  function_arn        = module.functions.function_arns["predict"]
  logs_bucket         = module.storage.bucket_names["logs"]
  deletion_protection = !var.sandbox
  kms_key_arn         = module.keys.key_arn
  log_retention_days  = var.log_retention_days
}

module "audit" {
  source = "./modules/audit"

  permissions_boundary = var.permissions_boundary
  trail_name           = local.trail_name
  logs_bucket          = reverse(split(":", module.storage.bucket_arns["logs"]))[0]
  data_bucket_arns     = [for k in ["raw", "processed", "models"] : module.storage.bucket_arns[k]]
  kms_key_arn          = module.keys.key_arn
  log_retention_days   = var.log_retention_days
}

# What the commands and functions need to know of this account, in one place.
resource "aws_ssm_parameter" "platform" {
  name        = local.platform_name
  description = "Where everything is, for the skin-lesion command"
  type        = "SecureString"
  key_id      = module.keys.key_arn
  tier        = "Intelligent-Tiering"

  value = jsonencode({
    region                  = var.region
    account_id              = local.account_id
    buckets                 = module.storage.bucket_names
    roles                   = { sagemaker = module.identity.sagemaker_role_arn, state_machine = module.identity.state_machine_role_arn, events = module.identity.events_role_arn }
    images                  = local.images
    kms_key                 = module.keys.key_arn
    volume_keys             = local.volume_keys
    topic                   = module.notification.topic_arn
    endpoint                = local.endpoint_name
    variant                 = "AllTraffic"
    pipeline                = module.models.pipeline_name
    pipeline_parameters     = local.pipeline_parameters
    model_package_group     = module.models.model_package_group
    state_machine           = module.orchestration.machine_arn
    retrain_url             = module.orchestration.retrain_url
    inference_instance_type = var.inference_instance_type
    scaling                 = var.scaling
    rollback_alarms         = local.rollback_alarms
    capture_uri             = "s3://${local.bucket_names["processed"]}/capture"
    subnets                 = local.subnet_ids
    security_groups         = local.security_group_ids
    network_isolation       = var.enable_vpc
  })
}
