output "event_alarm_arns" {
  description = "ARN of each alarm that starts a retraining through EventBridge, by name"
  value       = { for k, a in aws_cloudwatch_metric_alarm.this : k => a.arn if local.alarms[k].retrain }
}

output "alarm_names" {
  description = "Name of each alarm, by short name"
  value       = { for k, a in aws_cloudwatch_metric_alarm.this : k => a.alarm_name }
}

output "dashboard_name" {
  description = "Name of the dashboard"
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}
