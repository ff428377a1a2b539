variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "vpc_cidr" {
  description = "Address range of the VPC"
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0))
    error_message = "Give a CIDR range, as 10.0.0.0/16."
  }
}

variable "private_subnet_cidrs" {
  description = "Ranges of the two private subnets, where jobs run"
  type        = list(string)
  default     = ["10.0.1.0/24", "10.0.2.0/24"]

  validation {
    condition     = length(var.private_subnet_cidrs) == 2 && alltrue([for c in var.private_subnet_cidrs : can(cidrhost(c, 0))])
    error_message = "Give two CIDR ranges, one for each zone."
  }
}

variable "enable_public_subnets" {
  description = "Make the two public subnets of the load balancer"
  type        = bool
  default     = false
}

variable "public_subnet_cidrs" {
  description = "Ranges of the two public subnets"
  type        = list(string)
  default     = ["10.0.101.0/24", "10.0.102.0/24"]

  validation {
    condition     = length(var.public_subnet_cidrs) == 2 && alltrue([for c in var.public_subnet_cidrs : can(cidrhost(c, 0))])
    error_message = "Give two CIDR ranges, one for each zone."
  }
}

variable "interface_endpoints" {
  description = "Services reached without internet, by the last part of their endpoint's name"
  type        = set(string)
  default = [
    # jobs
    "sagemaker.api", "sagemaker.runtime", "logs", "monitoring", "ecr.api", "ecr.dkr", "sts", "kms",
    # functions
    "ssm", "sns", "application-autoscaling", "states",
  ]
}

variable "kms_key_arn" {
  description = "Key that encrypts the flow log"
  type        = string
}

variable "log_retention_days" {
  description = "Days the flow log is kept"
  type        = number
}

variable "permissions_boundary" {
  description = "ARN of the most that the roles made here may do, or null"
  type        = string
  default     = null
}
