variable "repositories" {
  description = "Names of the repositories by use: processing, training, inference"
  type        = map(string)

  validation {
    condition     = alltrue([for n in values(var.repositories) : can(regex("^[a-z0-9][a-z0-9._/-]{1,255}$", n))])
    error_message = "A repository's name is 2 to 256 lower-case letters, digits, '.', '_', '/' and '-'."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the images"
  type        = string
}

variable "image_tag_mutability" {
  description = "IMMUTABLE: a tag always means the same image. MUTABLE: `latest` may move"
  type        = string
  default     = "IMMUTABLE"

  validation {
    condition     = contains(["IMMUTABLE", "MUTABLE"], var.image_tag_mutability)
    error_message = "Give IMMUTABLE or MUTABLE."
  }
}

variable "force_delete" {
  description = "Let `terraform destroy` delete a repository that still holds images"
  type        = bool
  default     = false
}
