variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "bucket_names" {
  description = "Names of the four buckets: raw, processed, models, logs"
  type        = map(string)

  validation {
    condition     = toset(keys(var.bucket_names)) == toset(["raw", "processed", "models", "logs"])
    error_message = "Give exactly the keys raw, processed, models and logs."
  }

  validation {
    condition     = alltrue([for b in values(var.bucket_names) : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", b))])
    error_message = "A bucket's name is 3 to 63 lower-case letters, digits, '.' and '-'; shorten `name` or `bucket_suffix`."
  }
}

variable "replica_names" {
  description = "Names of the copies of raw and models, used with enable_replication"
  type        = map(string)

  validation {
    condition     = alltrue([for b in values(var.replica_names) : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", b))])
    error_message = "A bucket's name is 3 to 63 lower-case letters, digits, '.' and '-'; shorten `name` or `bucket_suffix`."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the data buckets"
  type        = string
}

variable "trail_name" {
  description = "Name of the CloudTrail trail that may write to the logs bucket"
  type        = string
}

variable "force_destroy" {
  description = "Let `terraform destroy` delete buckets that still hold objects"
  type        = bool
  default     = false
}

variable "logs_days" {
  description = "Days access logs are kept"
  type        = number
  default     = 30

  validation {
    condition     = var.logs_days >= 1
    error_message = "Keep logs at least one day."
  }
}

variable "trail_days" {
  description = "Days CloudTrail files are kept"
  type        = number
  default     = 365

  validation {
    condition     = var.trail_days >= 1
    error_message = "Keep the trail at least one day."
  }
}

variable "processed_days" {
  description = "Days processed data and monitoring reports are kept"
  type        = number
  default     = 180

  validation {
    condition     = var.processed_days >= 1
    error_message = "Keep processed data at least one day."
  }
}

variable "capture_days" {
  description = "Days captured requests and answers are kept"
  type        = number
  default     = 90

  validation {
    condition     = var.capture_days >= 1
    error_message = "Keep captured data at least one day."
  }
}

variable "noncurrent_days" {
  description = "Days a replaced or deleted object can still be restored"
  type        = number
  default     = 90

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "Keep old versions at least one day."
  }
}

variable "enable_replication" {
  description = "Copy raw data and models to the region of provider aws.replica"
  type        = bool
  default     = false
}

variable "permissions_boundary" {
  description = "ARN of the most that the roles made here may do, or null"
  type        = string
  default     = null
}
