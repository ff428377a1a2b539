output "backend" {
  description = "Contents of infra/backend.hcl: `terraform output -raw backend > ../backend.hcl`"
  value       = <<-EOT
    bucket     = "${aws_s3_bucket.this.id}"
    region     = "${var.region}"
    kms_key_id = "${aws_kms_key.this.arn}"
  EOT
}
