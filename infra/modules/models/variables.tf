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

variable "endpoint_name" {
  description = "Name of the endpoint"
  type        = string
}

variable "variant_name" {
  description = "Name of the endpoint's production variant"
  type        = string
  default     = "AllTraffic"
}

variable "endpoint_exists" {
  description = "The endpoint has been deployed: put its scaling under Terraform (AWS refuses a scaling target for an endpoint that is not there)"
  type        = bool
  default     = false
}

variable "scaling" {
  description = "Instances min to max; scale out above target, in below scale_in_below (invocations per instance per minute)"
  type = object({
    min            = number
    max            = number
    target         = number
    scale_in_below = number
  })

  validation {
    condition     = var.scaling.min >= 1 && var.scaling.min <= var.scaling.max
    error_message = "Scaling needs 1 <= min <= max."
  }

  validation {
    condition     = var.scaling.scale_in_below < var.scaling.target
    error_message = "Scale in below a lower rate than the one that scales out, or the endpoint never rests."
  }
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
