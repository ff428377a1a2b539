variable "machine_name" {
  description = "Name of the state machine"
  type        = string
}

variable "machine_role_arn" {
  description = "Role of the state machine"
  type        = string
}

variable "events_role_arn" {
  description = "Role with which rules and the API start the state machine"
  type        = string
}

variable "definition" {
  description = "Path of the state machine's definition (Amazon States Language with $${placeholders})"
  type        = string
}

variable "definition_values" {
  description = "Values of the placeholders"
  type        = map(string)
}

variable "schedule_days" {
  description = "Days between scheduled retrainings"
  type        = number
  default     = 30

  validation {
    condition     = var.schedule_days >= 1 && floor(var.schedule_days) == var.schedule_days
    error_message = "Give a whole number of days."
  }
}

variable "enable_schedule" {
  description = "Retrain on the schedule"
  type        = bool
  default     = true
}

variable "approval_mode" {
  description = "manual: a person approves each version. automatic: passing the gate approves it"
  type        = string

  validation {
    condition     = contains(["manual", "automatic"], var.approval_mode)
    error_message = "Give manual or automatic."
  }
}

variable "model_package_group" {
  description = "Group whose approvals deploy"
  type        = string
}

variable "drift_alarm_arns" {
  description = "Alarms that start a retraining"
  type        = list(string)

  validation {
    condition     = length(var.drift_alarm_arns) > 0
    error_message = "Without an alarm the rule would match every alarm of the account."
  }
}

variable "event_source" {
  description = "Source of the event `Retraining Requested`"
  type        = string

  validation {
    condition     = !startswith(var.event_source, "aws.")
    error_message = "Sources that begin with aws. belong to AWS."
  }
}

variable "topic_arn" {
  description = "Topic that is told of a retraining that could not tell itself"
  type        = string
}

variable "queue_arn" {
  description = "Queue of events that could not be delivered"
  type        = string
}

variable "requests_per_second" {
  description = "Steady rate of POST /retrain"
  type        = number
  default     = 1
}

variable "burst" {
  description = "Burst of POST /retrain"
  type        = number
  default     = 5
}

variable "kms_key_arn" {
  description = "Key that encrypts executions and logs"
  type        = string
}

variable "log_retention_days" {
  description = "Days logs are kept"
  type        = number
}
