variable "name" {
  description = "Prefix of every name; alarms with it may publish"
  type        = string
}

variable "topic_name" {
  description = "Name of the topic"
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts the messages"
  type        = string
}

variable "emails" {
  description = "Addresses that receive every message (each must confirm the subscription)"
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for a in var.emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", a))])
    error_message = "Every entry must be an e-mail address."
  }
}

variable "phone_numbers" {
  description = "E.164 numbers that receive an SMS, as +4512345678"
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for n in var.phone_numbers : can(regex("^\\+[1-9][0-9]{6,14}$", n))])
    error_message = "Give E.164 numbers, as +4512345678."
  }
}

variable "enable_slack" {
  description = "Subscribe the Slack function"
  type        = bool
  default     = false
}

variable "slack_function_arn" {
  description = "ARN of slack_notifier; needed with enable_slack"
  type        = string
  default     = null
}
