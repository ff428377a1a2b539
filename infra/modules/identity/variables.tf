variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "bucket_arns" {
  description = "ARN of each bucket: raw, processed, models"
  type        = map(string)
}

variable "repository_arns" {
  description = "Repositories that jobs and endpoint pull from"
  type        = list(string)
}

variable "kms_key_arn" {
  description = "The key"
  type        = string
}

variable "topic_arn" {
  description = "Topic of the alerts"
  type        = string
}

variable "machine_arn" {
  description = "The state machine"
  type        = string
}

variable "queue_arn" {
  description = "Queue of what could not be delivered"
  type        = string
}

variable "pipeline_name" {
  description = "Name of the pipeline"
  type        = string
}

variable "model_package_group" {
  description = "Name of the model package group"
  type        = string
}

variable "endpoint_name" {
  description = "Name of the endpoint; models and configurations are named after it"
  type        = string
}

variable "rollback_alarms" {
  description = "Names of the alarms that take a deployment back"
  type        = list(string)
}

variable "metric_namespace" {
  description = "Namespace in which monitors may publish"
  type        = string
}

variable "monitor_kinds" {
  description = "Monitors the scheduler may start"
  type        = list(string)
}

variable "function_arns" {
  description = "ARN of each function, by verb"
  type        = map(string)

  validation {
    condition = length(setsubtract(keys(var.function_arns), [
      "check_data_availability", "check_pipeline_status", "evaluate_model", "approve_model", "deploy_model", "slack_notifier", "predict",
    ])) == 0
    error_message = "A function without a policy here: write down its calls in functions.tf."
  }
}

variable "machine_verbs" {
  description = "Functions the state machine invokes"
  type        = list(string)
}

variable "slack_secret_arn" {
  description = "Secret of the Slack webhook, or null"
  type        = string
  default     = null
}

variable "enable_vpc" {
  description = "Jobs and functions join the VPC"
  type        = bool
  default     = false
}

variable "verbs_outside_vpc" {
  description = "Functions that do not"
  type        = list(string)
  default     = []
}

variable "permissions_boundary" {
  description = "ARN of the most that the roles made here may do, or null"
  type        = string
  default     = null
}
