output "function_arns" {
  description = "ARN of each function, by verb"
  value       = { for k, f in aws_lambda_function.this : k => f.arn }
}

output "function_names" {
  description = "Name of each function, by verb"
  value       = { for k, f in aws_lambda_function.this : k => f.function_name }
}

output "queue_arn" {
  description = "ARN of the queue of undelivered events"
  value       = aws_sqs_queue.this.arn
}

output "queue_name" {
  description = "Name of the queue of undelivered events"
  value       = aws_sqs_queue.this.name
}
