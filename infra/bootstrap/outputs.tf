output "backend" {
  description = "Contents of infra/backend.hcl: `terraform output -raw backend > ../backend.hcl`"
  value       = <<-EOT
    bucket     = "${aws_s3_bucket.this.id}"
    region     = "${var.region}"
    kms_key_id = "${aws_kms_key.this.arn}"
  EOT
}

output "settings" {
  description = "Contents of infra/bootstrap.auto.tfvars: `terraform output -raw settings > ../bootstrap.auto.tfvars`"
  value       = <<-EOT
    region               = "${var.region}"
    permissions_boundary = "${aws_iam_policy.boundary.arn}"
  EOT
}

output "registries" {
  description = "Hosts of AWS's own containers in this region, by framework"
  value       = local.registries
}

output "github" {
  description = "Commands that set the workflow's variables: `terraform output -raw github | sh`, in the repository"
  value = join("\n", concat([for name, value in local.github ? {
    AWS_BOUNDARY_ARN     = aws_iam_policy.boundary.arn
    AWS_DEPLOY_ROLE_ARN  = aws_iam_role.github["deploy"].arn
    AWS_PLAN_ROLE_ARN    = aws_iam_role.github["plan"].arn
    AWS_PYTORCH_REGISTRY = local.registries.pytorch
    AWS_REGION           = var.region
    AWS_SKLEARN_REGISTRY = local.registries.sklearn
  } : {} : "gh variable set ${name} --body '${value}'"], local.github ? ["gh variable set TF_BACKEND < ../backend.hcl", ""] : []))
}
