output "sagemaker_role_arn" {
  description = "Role of pipeline, jobs, monitors and endpoint"
  value       = aws_iam_role.sagemaker.arn

  depends_on = [aws_iam_role_policy.sagemaker]
}

output "state_machine_role_arn" {
  description = "Role of the state machine"
  value       = aws_iam_role.state_machine.arn

  depends_on = [aws_iam_role_policy.state_machine]
}

output "events_role_arn" {
  description = "Role of rules, schedules and the API"
  value       = aws_iam_role.events.arn

  depends_on = [aws_iam_role_policy.events]
}

output "function_role_arns" {
  description = "Role of each function, by verb"
  value       = { for verb, role in aws_iam_role.function : verb => role.arn }

  depends_on = [aws_iam_role_policy.function, aws_iam_role_policy.runtime]
}

output "function_policies" {
  description = "What each function may call, as JSON, by verb"
  value       = { for verb, p in data.aws_iam_policy_document.function : verb => p.json }
}
