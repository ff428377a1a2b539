variable "trail_name" {
  description = "Name of the trail"
  type        = string
}

variable "logs_bucket" {
  description = "Name of the bucket that receives the files"
  type        = string
}

variable "data_bucket_arns" {
  description = "Buckets whose every read and write is recorded"
  type        = list(string)

  validation {
    condition     = length(var.data_bucket_arns) > 0
    error_message = "Name at least one bucket."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts files and log group"
  type        = string
}

variable "log_retention_days" {
  description = "Days the log group is kept"
  type        = number
}

variable "permissions_boundary" {
  description = "ARN of the most that the roles made here may do, or null"
  type        = string
  default     = null
}
