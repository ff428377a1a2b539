variable "name" {
  description = "Prefix of every name"
  type        = string

  validation {
    condition     = length(var.name) <= 24
    error_message = "A load balancer's name, with its suffix, is at most 32 characters: use a prefix of at most 24."
  }
}

variable "vpc_id" {
  description = "VPC of the load balancer"
  type        = string
}

variable "public_subnet_ids" {
  description = "Public subnets, two zones"
  type        = list(string)
}

variable "allowed_cidrs" {
  description = "Addresses that may connect"
  type        = list(string)

  validation {
    condition     = length(var.allowed_cidrs) > 0 && alltrue([for c in var.allowed_cidrs : can(cidrhost(c, 0))])
    error_message = "Give CIDR ranges, as 192.0.2.0/24."
  }
}

variable "certificate_arn" {
  description = "ACM certificate of host_name"
  type        = string
}

variable "host_name" {
  description = "DNS name users open; point it at the load balancer"
  type        = string
}

variable "auth_domain_prefix" {
  description = "First part of the sign-in page's address, unique in the region"
  type        = string
}

variable "function_arn" {
  description = "The predict function"
  type        = string
}

variable "logs_bucket" {
  description = "Bucket of access logs"
  type        = string
}

variable "requests_per_5_minutes" {
  description = "Requests one address may send in five minutes"
  type        = number
  default     = 2000

  validation {
    condition     = var.requests_per_5_minutes >= 100
    error_message = "WAF takes at least 100."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the load balancer and its users"
  type        = bool
  default     = true
}

variable "kms_key_arn" {
  description = "Key that encrypts the firewall's log"
  type        = string
}

variable "log_retention_days" {
  description = "Days the firewall's log is kept"
  type        = number
}
