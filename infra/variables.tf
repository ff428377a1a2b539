# ---- Where and whose

variable "region" {
  description = "AWS region"
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Give a region's code, as eu-west-1."
  }
}

variable "name" {
  description = "Prefix of every name; a second copy in the same account needs another one"
  type        = string
  default     = "skin-lesion"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,19}$", var.name)) && !endswith(var.name, "-")
    error_message = "Give 3 to 20 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "environment" {
  description = "Stage, for the tag Environment"
  type        = string
  default     = "dev"

  validation {
    condition     = contains(["dev", "staging", "prod"], var.environment)
    error_message = "Give dev, staging or prod."
  }
}

variable "tags" {
  description = "More tags for everything"
  type        = map(string)
  default     = {}
}

variable "sandbox" {
  description = "Everything may be destroyed at once: buckets with their objects, repositories with their images, secrets without a waiting time"
  type        = bool
  default     = false

  validation {
    condition     = !(var.sandbox && var.environment == "prod")
    error_message = "A production environment is not a sandbox."
  }
}

# ---- Storage, key, images

variable "bucket_suffix" {
  description = "End of the buckets' names, which are unique in the world; null takes the account's number"
  type        = string
  default     = null

  validation {
    condition     = var.bucket_suffix == null || can(regex("^[a-z0-9][a-z0-9-]{0,20}[a-z0-9]$", var.bucket_suffix))
    error_message = "Give 2 to 22 lower-case letters, digits and dashes."
  }
}

variable "replica_region" {
  description = "Region for copies of raw data and models, or null"
  type        = string
  default     = null

  validation {
    condition     = var.replica_region == null || var.replica_region != var.region
    error_message = "A copy in the same region does not survive the region."
  }
}

variable "logs_bucket_days" {
  description = "Days access logs are kept in the logs bucket"
  type        = number
  default     = 30

  validation {
    condition     = var.logs_bucket_days >= 1
    error_message = "Keep logs at least one day."
  }
}

variable "trail_days" {
  description = "Days CloudTrail's files are kept in the logs bucket"
  type        = number
  default     = 365

  validation {
    condition     = var.trail_days >= 90
    error_message = "Keep the audit trail at least 90 days."
  }
}

variable "log_retention_days" {
  description = "Days CloudWatch keeps logs"
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch takes 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "own_job_logs" {
  description = "Give SageMaker's log groups of jobs, which belong to the whole account, our retention and key; false where somebody else's Terraform has them"
  type        = bool
  default     = true
}

variable "kms_deletion_window_in_days" {
  description = "Days between asking for the key's deletion and losing everything it encrypts"
  type        = number
  default     = 30
}

variable "image_tag" {
  description = "Tag of the training and inference images in use"
  type        = string
  default     = "0.1.0"

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", var.image_tag))
    error_message = "An image's tag is 1 to 128 letters, digits, '.', '_' and '-'."
  }
}

variable "image_tag_mutability" {
  description = "IMMUTABLE: a tag always means the same image, so image_tag names a release. MUTABLE: `latest` may move"
  type        = string
  default     = "IMMUTABLE"

  validation {
    condition     = contains(["IMMUTABLE", "MUTABLE"], var.image_tag_mutability)
    error_message = "Give IMMUTABLE or MUTABLE."
  }
}

# ---- Training and retraining

variable "pipeline_definition" {
  description = "Path of the committed pipeline definition"
  type        = string
  default     = "../skin_lesion_mlops/pipeline.json"
}

variable "pipeline_parameters" {
  description = "Defaults of further pipeline parameters; what a model must reach among them, as { MinMalignantSensitivity = \"0.9\" }"
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.pipeline_parameters), jsondecode(file(var.pipeline_definition)).Parameters[*].Name)) == 0
    error_message = "The pipeline has no such parameter; `skin-lesion pipeline parameters` lists them."
  }

  validation {
    condition = alltrue([
      for k, v in var.pipeline_parameters : try(tonumber(v) <= 1 && tonumber(v) >= (k == "MinChampionDifference" ? -1 : 0), false)
      if contains(["AccuracyThreshold", "MinBalancedAccuracy", "MinMalignantSensitivity", "MaxEce", "MinChampionDifference", "MalignantShare"], k)
    ])
    error_message = "Thresholds are shares: 85 % is 0.85; MinChampionDifference is from -1 (off) to 1."
  }
}

variable "state_machine_definition" {
  description = "Path of the state machine's definition"
  type        = string
  default     = "retraining.asl.json"
}

variable "processing_instance_type" {
  description = "Instance of preprocessing, evaluation and monitors"
  type        = string
  default     = "ml.m5.xlarge"

  validation {
    condition     = startswith(var.processing_instance_type, "ml.")
    error_message = "SageMaker's instance types begin with ml."
  }
}

variable "training_instance_type" {
  description = "Instance of training"
  type        = string
  default     = "ml.p3.2xlarge"

  validation {
    condition     = startswith(var.training_instance_type, "ml.")
    error_message = "SageMaker's instance types begin with ml."
  }
}

variable "volume_size_gb" {
  description = "Disk of each job of the pipeline (GB): raw images and shards side by side; at most what a machine with a disk of its own has"
  type        = number
  default     = 200

  validation {
    condition     = var.volume_size_gb >= 10 && var.volume_size_gb <= 16384 && floor(var.volume_size_gb) == var.volume_size_gb
    error_message = "A job's disk has 10 to 16384 GB."
  }
}

variable "retraining_days" {
  description = "Days between scheduled retrainings"
  type        = number
  default     = 30

  validation {
    condition     = var.retraining_days >= 1 && floor(var.retraining_days) == var.retraining_days
    error_message = "Give a whole number of days, 1 or more."
  }
}

variable "enable_retraining_schedule" {
  description = "Retrain on the schedule"
  type        = bool
  default     = true
}

variable "min_new_samples" {
  description = "New images that make a retraining worthwhile"
  type        = number
  default     = 100

  validation {
    condition     = var.min_new_samples >= 0 && floor(var.min_new_samples) == var.min_new_samples
    error_message = "Give a whole number, 0 or more."
  }
}

variable "thresholds" {
  description = "Gone: what a model must reach is set in pipeline_parameters, as { MinMalignantSensitivity = \"0.9\" }"
  type        = any
  default     = null

  validation {
    condition     = var.thresholds == null
    error_message = "Thresholds are pipeline parameters: write pipeline_parameters = { AccuracyThreshold = \"0.85\", MinMalignantSensitivity = \"0.9\" }."
  }
}

variable "approval_mode" {
  description = "manual: a person approves each version. automatic: passing the gate approves it"
  type        = string
  default     = "manual"

  validation {
    condition     = contains(["manual", "automatic"], var.approval_mode)
    error_message = "Give manual or automatic."
  }
}

# ---- Serving

variable "inference_instance_type" {
  description = "Instance of the endpoint"
  type        = string
  default     = "ml.m5.xlarge"

  validation {
    condition     = startswith(var.inference_instance_type, "ml.")
    error_message = "SageMaker's instance types begin with ml."
  }
}

variable "scaling" {
  description = "Instances min to max; out above target, in below scale_in_below (invocations per instance per minute)"
  type = object({
    min            = optional(number, 1)
    max            = optional(number, 5)
    target         = optional(number, 1000)
    scale_in_below = optional(number, 500)
  })
  default = {}

  validation {
    condition     = var.scaling.min >= 1 && var.scaling.min <= var.scaling.max && var.scaling.scale_in_below < var.scaling.target
    error_message = "Scaling needs 1 <= min <= max and scale_in_below < target."
  }
}

# ---- Monitoring and alerts

variable "monitors" {
  description = "Schedule of each monitor (UTC)"
  type        = map(object({ description = string, schedule = string }))
  default = {
    data-quality  = { description = "Input drift, distributions, missing values", schedule = "rate(1 hour)" }
    model-quality = { description = "Accuracy, precision and recall against confirmed diagnoses", schedule = "rate(6 hours)" }
    bias          = { description = "Differences between sexes, ages and body sites", schedule = "rate(1 day)" }
  }

  validation {
    condition     = length(setsubtract(keys(var.monitors), ["data-quality", "model-quality", "bias"])) == 0
    error_message = "The monitors are data-quality, model-quality and bias."
  }
}

variable "enable_monitors" {
  description = "Start the monitors on their schedules: set it when the endpoint serves, before that there is nothing to look at and every run fails"
  type        = bool
  default     = false
}

variable "native_monitor" {
  description = "Also make SageMaker Model Monitor's own data-quality schedule (the service is closed to new accounts), with the region's analyzer image; needs the endpoint"
  type        = object({ analyzer_image = string })
  default     = null
}

variable "metric_namespace" {
  description = "Namespace of the monitors' metrics"
  type        = string
  default     = "SkinLesion/Monitoring"

  validation {
    condition     = !startswith(var.metric_namespace, "AWS/") && can(regex("^[A-Za-z0-9/_.#:-]{1,255}$", var.metric_namespace))
    error_message = "Give letters, digits and / _ . # : -, not beginning with AWS/."
  }
}

variable "alarms" {
  description = "Limits: failed predictions an hour, P95 latency (ms), falls in accuracy and in malignant sensitivity (fractions: 0.05 is five points), bias violations, cost a month (USD)"
  type = object({
    errors_per_hour  = optional(number, 10)
    latency_ms       = optional(number, 1000)
    accuracy_drop    = optional(number, 0.05)
    sensitivity_drop = optional(number, 0.05)
    bias_violations  = optional(number, 0)
    monthly_cost_usd = optional(number, 500)
  })
  default = {}

  validation {
    condition     = var.alarms.errors_per_hour >= 0 && var.alarms.monthly_cost_usd > 0
    error_message = "Errors are counted from 0; a budget is positive."
  }

  validation {
    condition     = var.alarms.latency_ms >= 10 && var.alarms.latency_ms <= 60000
    error_message = "Latency is in milliseconds, 10 to 60000."
  }

  validation {
    condition     = alltrue([for d in [var.alarms.accuracy_drop, var.alarms.sensitivity_drop] : d > 0 && d < 1])
    error_message = "A fall in accuracy or sensitivity is a fraction: five points are 0.05."
  }

  validation {
    condition     = var.alarms.bias_violations >= 0
    error_message = "Bias violations are counted from 0."
  }
}

variable "enable_sensitivity_alarm" {
  description = "Alarm when malignant sensitivity falls by more than alarms.sensitivity_drop"
  type        = bool
  default     = true
}

variable "enable_bias_alarm" {
  description = "Alarm when the bias monitor reports more than alarms.bias_violations differences between groups"
  type        = bool
  default     = true
}

variable "alert_emails" {
  description = "Addresses that receive every alert (each must confirm)"
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for a in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", a))])
    error_message = "Every entry must be an e-mail address."
  }
}

variable "alert_phone_numbers" {
  description = "E.164 numbers that receive every alert as SMS"
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for n in var.alert_phone_numbers : can(regex("^\\+[1-9][0-9]{6,14}$", n))])
    error_message = "Give E.164 numbers, as +4512345678."
  }
}

variable "enable_slack" {
  description = "Alerts go to Slack too; put the webhook's address into the secret <name>/slack-webhook"
  type        = bool
  default     = false
}

variable "permissions_boundary" {
  description = "ARN of the policy that bounds every role made here; `bootstrap` makes it, and GitHub's role makes no role without"
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:policy/", var.permissions_boundary))
    error_message = "Give a policy's ARN: `terraform -chdir=bootstrap output -raw settings > bootstrap.auto.tfvars` writes it."
  }
}

# ---- Functions

variable "lambda_zip_folder" {
  description = "Folder of the functions' zips, made by `make lambdas`"
  type        = string
  default     = "../build/lambdas"

  validation {
    condition     = fileexists("${var.lambda_zip_folder}/deploy_model.zip")
    error_message = "The zips are not there: run `make lambdas` first."
  }
}

variable "log_level" {
  description = "What the functions log"
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "Give DEBUG, INFO, WARNING or ERROR."
  }
}

variable "reserve_concurrency" {
  description = "Reserve concurrency for approve_model, deploy_model and predict; a new account has 10 in all and refuses any"
  type        = bool
  default     = false
}

# ---- Network and entry

variable "enable_vpc" {
  description = "Jobs, functions and endpoint run in private subnets without internet"
  type        = bool
  default     = false
}

variable "vpc_cidr" {
  description = "Address range of the VPC"
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0))
    error_message = "Give a CIDR range, as 10.0.0.0/16."
  }
}

variable "private_subnet_cidrs" {
  description = "Ranges of the two private subnets"
  type        = list(string)
  default     = ["10.0.1.0/24", "10.0.2.0/24"]

  validation {
    condition     = length(var.private_subnet_cidrs) == 2 && alltrue([for c in var.private_subnet_cidrs : can(cidrhost(c, 0))])
    error_message = "Give two CIDR ranges, one for each zone."
  }
}

variable "public_subnet_cidrs" {
  description = "Ranges of the two public subnets of the load balancer"
  type        = list(string)
  default     = ["10.0.101.0/24", "10.0.102.0/24"]

  validation {
    condition     = length(var.public_subnet_cidrs) == 2 && alltrue([for c in var.public_subnet_cidrs : can(cidrhost(c, 0))])
    error_message = "Give two CIDR ranges, one for each zone."
  }
}

variable "enable_alb" {
  description = "A load balancer with HTTPS and sign-in in front of the endpoint"
  type        = bool
  default     = false

  validation {
    condition     = !var.enable_alb || var.enable_vpc
    error_message = "The load balancer lives in the VPC: set enable_vpc too."
  }
}

variable "certificate_arn" {
  description = "ACM certificate of host_name; needed with enable_alb"
  type        = string
  default     = null

  validation {
    condition     = !var.enable_alb || can(regex("^arn:[a-z-]+:acm:", var.certificate_arn))
    error_message = "HTTPS needs the ARN of an ACM certificate."
  }
}

variable "host_name" {
  description = "DNS name users open; needed with enable_alb"
  type        = string
  default     = null

  validation {
    condition     = !var.enable_alb || can(regex("^[a-z0-9.-]+\\.[a-z]+$", var.host_name))
    error_message = "Sign-in needs the DNS name that users open, as predict.example.org."
  }
}

variable "auth_domain_prefix" {
  description = "First part of the sign-in page's address; null makes one from name and account"
  type        = string
  default     = null
}

variable "allowed_cidrs" {
  description = "Addresses that may reach the load balancer; name the hospital's, not the world"
  type        = list(string)
  default     = []

  validation {
    condition     = !var.enable_alb || length(var.allowed_cidrs) > 0
    error_message = "Say who may connect, as [\"192.0.2.0/24\"]."
  }
}
