output "repository_urls" {
  description = "URL of each repository by use"
  value       = { for k, r in aws_ecr_repository.this : k => r.repository_url }
}

output "repository_arns" {
  description = "ARN of each repository by use"
  value       = { for k, r in aws_ecr_repository.this : k => r.arn }
}
