variable "region" {
  description = "AWS region"
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Give a region's code, as eu-west-1."
  }
}

variable "name" {
  description = "Prefix of every name"
  type        = string
  default     = "skin-lesion"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,19}$", var.name))
    error_message = "Give 3 to 20 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "force_destroy" {
  description = "Let `terraform destroy` delete the states"
  type        = bool
  default     = false
}
