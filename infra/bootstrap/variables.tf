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

variable "platform" {
  description = "What GitHub's roles may make: minimal, or hipaa, with its network, sign-in and copies in a second region"
  type        = string
  default     = "minimal"

  validation {
    condition     = contains(["minimal", "hipaa"], var.platform)
    error_message = "Give minimal or hipaa."
  }
}

variable "github_repository" {
  description = "Repository whose workflows deploy, as its tokens name it: what `gh api repos/OWNER/NAME/actions/oidc/customization/sub -q .sub_claim_prefix` prints after `repo:`; null makes nothing for GitHub"
  type        = string
  default     = null

  validation {
    condition     = var.github_repository == null || can(regex("^[A-Za-z0-9-]+(@[0-9]+)?/[A-Za-z0-9._-]+(@[0-9]+)?$", var.github_repository))
    error_message = "Give OWNER/NAME or, where GitHub's tokens have ids, OWNER@1234/NAME@5678."
  }
}

variable "github_environments" {
  description = "GitHub's environments that deploy from main into this account: production, staging"
  type        = set(string)
  default     = ["production"]

  validation {
    condition     = length(var.github_environments) > 0 && alltrue([for e in var.github_environments : contains(["production", "staging"], e)])
    error_message = "The workflows know production and staging."
  }
}

variable "create_oidc_provider" {
  description = "Make GitHub's identity provider; false where the account has it, for there can be only one"
  type        = bool
  default     = true
}
