output "machine_arn" {
  description = "ARN of the state machine"
  value       = aws_sfn_state_machine.this.arn
}

output "retrain_url" {
  description = "Where to POST a retraining request, signed with SigV4 for execute-api"
  value       = "${aws_apigatewayv2_api.this.api_endpoint}/retrain"
}

output "api_id" {
  description = "ID of the HTTP API"
  value       = aws_apigatewayv2_api.this.id
}

output "rule_names" {
  description = "Name of each rule, by trigger"
  value       = { for k, r in aws_cloudwatch_event_rule.this : k => r.name }
}
