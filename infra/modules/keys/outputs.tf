output "key_arn" {
  description = "ARN of the key"
  value       = aws_kms_key.this.arn
}

output "alias_name" {
  description = "Alias of the key"
  value       = aws_kms_alias.this.name
}

output "slack_secret_arn" {
  description = "ARN of the Slack webhook's secret, or null"
  value       = one(aws_secretsmanager_secret.slack[*].arn)
}
