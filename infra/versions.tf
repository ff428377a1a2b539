terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # Filled in by `terraform init -backend-config=backend.hcl`; `bootstrap` makes the bucket and prints that file.
  # Without it, `terraform init -backend=false` or a backend_override.tf keeps the state on this machine.
  backend "s3" {
    key          = "platform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

# Copies for disaster recovery go to another region; without replica_region nothing is made there.
provider "aws" {
  alias  = "replica"
  region = coalesce(var.replica_region, var.region)

  default_tags {
    tags = local.tags
  }
}
