variable "name" {
  description = "Prefix of every name, and the value of the tag Project that the budget adds up"
  type        = string
}

variable "topic_arn" {
  description = "Topic of the alarms"
  type        = string
}

variable "endpoint_name" {
  description = "Name of the endpoint"
  type        = string
}

variable "variant_name" {
  description = "Name of the endpoint's production variant"
  type        = string
  default     = "AllTraffic"
}

variable "metric_namespace" {
  description = "Namespace of the metrics the monitors publish"
  type        = string
  default     = "SkinLesion/Monitoring"
}

variable "limits" {
  description = "Limits of the alarms, by name: the root's variable `alarms`, which checks them"
  type        = map(number)
}

variable "enable_sensitivity_alarm" {
  description = "Make the alarm on a fall of malignant sensitivity"
  type        = bool
  default     = true
}

variable "enable_bias_alarm" {
  description = "Make the alarm on differences between groups of patients"
  type        = bool
  default     = true
}

variable "monitors" {
  description = "Schedule of each monitor: data-quality, model-quality, bias"
  type = map(object({
    description = string
    schedule    = string
  }))

  validation {
    condition     = alltrue([for m in values(var.monitors) : can(regex("^(rate|cron)\\(.+\\)$", m.schedule))])
    error_message = "Give rate(...) or cron(...)."
  }
}

variable "enable_schedules" {
  description = "Start the monitors on their schedules; false until an endpoint captures data"
  type        = bool
  default     = false
}

variable "native_monitor" {
  description = "Also make SageMaker Model Monitor's own data-quality schedule, with its analyzer image; needs a deployed endpoint and an account that has the service"
  type        = object({ analyzer_image = string })
  default     = null
}

variable "image_uri" {
  description = "Image of the monitors"
  type        = string
}

variable "instance_type" {
  description = "Instance of the monitors"
  type        = string
}

variable "volume_key" {
  description = "May its volume have our key? Machines with disks of their own refuse one"
  type        = bool
  default     = true
}

variable "processed_bucket" {
  description = "Bucket of captured requests, baseline and reports"
  type        = string
}

variable "sagemaker_role_arn" {
  description = "Role of the monitors"
  type        = string
}

variable "events_role_arn" {
  description = "Role with which the scheduler starts them"
  type        = string
}

variable "queue_arn" {
  description = "Queue of what could not be started"
  type        = string
}

variable "queue_name" {
  description = "Name of that queue, for the dashboard"
  type        = string
}

variable "function_names" {
  description = "Functions to show"
  type        = list(string)
}

variable "machine_arn" {
  description = "State machine to show"
  type        = string
}

variable "pipeline_name" {
  description = "Pipeline to show"
  type        = string
}

variable "enable_vpc" {
  description = "Run the monitors in the private subnets"
  type        = bool
  default     = false
}

variable "subnet_ids" {
  description = "Private subnets, with enable_vpc"
  type        = list(string)
  default     = []
}

variable "security_group_ids" {
  description = "Security groups, with enable_vpc"
  type        = list(string)
  default     = []
}

variable "kms_key_arn" {
  description = "Key that encrypts outputs, volumes, schedules and logs"
  type        = string
}

variable "log_retention_days" {
  description = "Days logs are kept"
  type        = number
}
