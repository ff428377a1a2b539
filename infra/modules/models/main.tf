locals {
  committed = jsondecode(file(var.pipeline_definition))

  # Where a job runs is this account's business, not the definition's: private subnets and no network from inside the container.
  network = {
    Processing = {
      NetworkConfig = {
        EnableNetworkIsolation                = true
        EnableInterContainerTrafficEncryption = true
        VpcConfig                             = { Subnets = var.subnet_ids, SecurityGroupIds = var.security_group_ids }
      }
    }
    Training = {
      EnableNetworkIsolation                = true
      EnableInterContainerTrafficEncryption = true
      VpcConfig                             = { Subnets = var.subnet_ids, SecurityGroupIds = var.security_group_ids }
    }
  }

  # The machines of each step, without a key for their volumes.
  machines = {
    for s in local.committed.Steps : s.Name => {
      Processing = try({ ProcessingResources = { ClusterConfig = { for k, v in s.Arguments.ProcessingResources.ClusterConfig : k => v if k != "VolumeKmsKeyId" } } }, {})
      Training   = try({ ResourceConfig = { for k, v in s.Arguments.ResourceConfig : k => v if k != "VolumeKmsKeyId" } }, {})
    }
  }

  definition = merge(local.committed, {
    # A number stays a number: SageMaker refuses "20" as the default of an Integer.
    Parameters = [
      for p in local.committed.Parameters : merge(p, {
        for k, v in var.pipeline_parameters : "DefaultValue" => jsondecode(p.Type == "String" ? jsonencode(v) : v) if k == p.Name
      })
    ]
    Steps = [
      for s in local.committed.Steps : merge(s, {
        Arguments = merge(concat(
          [s.Arguments],
          [for type, extra in local.network : extra if var.enable_vpc && type == s.Type],
          [for type, extra in local.machines[s.Name] : extra if type == s.Type && !var.volume_keys[type]],
        )...)
      })
    ]
  })
}

resource "aws_sagemaker_pipeline" "this" {
  pipeline_name         = var.pipeline_name
  pipeline_display_name = var.pipeline_name
  pipeline_description  = "Preprocess, train, evaluate, register when the gate is passed"
  role_arn              = var.role_arn
  pipeline_definition   = jsonencode(local.definition)

  lifecycle {
    precondition {
      condition     = alltrue([for name in keys(var.pipeline_parameters) : contains(local.committed.Parameters[*].Name, name)])
      error_message = "The pipeline's definition lacks a parameter that is set here: ${join(", ", [for name in keys(var.pipeline_parameters) : name if !contains(local.committed.Parameters[*].Name, name)])}."
    }
  }
}

resource "aws_sagemaker_model_package_group" "this" {
  model_package_group_name        = var.model_package_group
  model_package_group_description = "Versions of the skin lesion classifier, each with its figures, its data and its approval"
}

# The deploy step makes models, endpoint configurations and the endpoint, new ones for every version, and registers its
# scaling: none of it is Terraform's. A scalable target that somebody else has registered cannot be taken over with tags.

# SageMaker makes these log groups itself, without retention and without our key, unless they are there. The names of the
# first two belong to the whole account.
resource "aws_cloudwatch_log_group" "sagemaker" {
  #checkov:skip=CKV_AWS_338:Retention is the variable log_retention_days, six years in the HIPAA example
  for_each = toset(concat(["Endpoints/${var.endpoint_name}"], var.own_job_logs ? ["ProcessingJobs", "TrainingJobs"] : []))

  name              = "/aws/sagemaker/${each.value}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}
