output "bucket_names" {
  description = "Name of each bucket: raw, processed, models, logs"
  value       = { for k, b in aws_s3_bucket.this : k => b.bucket }
}

output "bucket_arns" {
  description = "ARN of each bucket: raw, processed, models, logs"
  value       = { for k, b in aws_s3_bucket.this : k => b.arn }

  # Whoever writes to a bucket waits until its policy lets them.
  depends_on = [aws_s3_bucket_policy.this]
}
