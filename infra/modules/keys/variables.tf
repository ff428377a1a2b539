variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "alias" {
  description = "Alias of the key, without `alias/`"
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9/_-]+$", var.alias)) && !startswith(var.alias, "aws/")
    error_message = "Give letters, digits, /, _ and -; the prefix aws/ belongs to AWS."
  }
}

variable "deletion_window_in_days" {
  description = "Days between asking for the key's deletion and losing everything it encrypts"
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_window_in_days >= 7 && var.deletion_window_in_days <= 30
    error_message = "AWS takes 7 to 30 days."
  }
}

variable "trail_name" {
  description = "Name of the CloudTrail trail that may encrypt with the key"
  type        = string
}

variable "enable_slack" {
  description = "Make the secret that holds the Slack webhook"
  type        = bool
  default     = false
}

variable "secret_recovery_days" {
  description = "Days a deleted secret can still be restored (0 deletes at once, for sandboxes)"
  type        = number
  default     = 30

  validation {
    condition     = var.secret_recovery_days == 0 || (var.secret_recovery_days >= 7 && var.secret_recovery_days <= 30)
    error_message = "AWS takes 0, or 7 to 30 days."
  }
}
