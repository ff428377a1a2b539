variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "verbs" {
  description = "The functions, by the verbs that name their zips; alone, so that the logs depend on nothing that can be destroyed without them"
  type        = set(string)
}

variable "functions" {
  description = "What each function needs, by the verb that names its zip: memory (MB), timeout (s), reserved concurrency (-1: none), own environment, whether it joins the VPC"
  type = map(object({
    description = string
    memory_mb   = number
    timeout_s   = number
    concurrency = optional(number, -1)
    environment = optional(map(string), {})
    in_vpc      = optional(bool, true)
  }))

  validation {
    condition     = alltrue([for f in values(var.functions) : f.memory_mb >= 128 && f.memory_mb <= 10240])
    error_message = "Lambda takes 128 to 10240 MB."
  }

  validation {
    condition     = alltrue([for f in values(var.functions) : f.timeout_s >= 1 && f.timeout_s <= 900])
    error_message = "Lambda runs for at most 900 s."
  }
}

variable "role_arns" {
  description = "Execution role of each function, by verb"
  type        = map(string)
}

variable "environment" {
  description = "Environment that all functions share"
  type        = map(string)
}

variable "zip_folder" {
  description = "Folder of the built zips, <verb>.zip"
  type        = string
}

variable "reserve_concurrency" {
  description = "Reserve concurrency where it protects; an account with the starting quota of 10 has none to reserve"
  type        = bool
  default     = true
}

variable "kms_key_arn" {
  description = "Key that encrypts environments, logs and the queue"
  type        = string
}

variable "log_retention_days" {
  description = "Days logs are kept"
  type        = number
}

variable "enable_vpc" {
  description = "Attach the functions to the VPC"
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
