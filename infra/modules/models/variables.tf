variable "pipeline_name" {
  description = "Name of the SageMaker pipeline"
  type        = string
}

variable "pipeline_definition" {
  description = "Path of the committed pipeline definition"
  type        = string
}

variable "pipeline_parameters" {
  description = "Defaults of the pipeline's parameters in this account"
  type        = map(string)
}

variable "role_arn" {
  description = "SageMaker execution role"
  type        = string
}

variable "model_package_group" {
  description = "Name of the model package group"
  type        = string
}

variable "enable_vpc" {
  description = "Run jobs in the private subnets, isolated from the network"
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

variable "endpoint_name" {
  description = "Name of the endpoint, for its log group"
  type        = string
}

variable "own_job_logs" {
  description = "Keep the account's log groups of SageMaker's jobs: their retention, their key"
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "Days logs are kept"
  type        = number
}

variable "kms_key_arn" {
  description = "Key that encrypts logs"
  type        = string
}

variable "volume_keys" {
  description = "May the volumes of Processing and Training jobs have our key? Machines with disks of their own refuse one"
  type        = map(bool)
}
