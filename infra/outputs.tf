output "buckets" {
  description = "Name of each bucket: raw, processed, models, logs"
  value       = module.storage.bucket_names
}

output "repositories" {
  description = "Where to push the training and inference images"
  value       = module.images.repository_urls
}

output "kms_key_arn" {
  description = "The key"
  value       = module.keys.key_arn
}

output "roles" {
  description = "Role ARNs"
  value = {
    sagemaker     = module.identity.sagemaker_role_arn
    state_machine = module.identity.state_machine_role_arn
    events        = module.identity.events_role_arn
    functions     = module.identity.function_role_arns
  }
}

output "functions" {
  description = "Function names, by verb"
  value       = module.functions.function_names
}

output "function_policies" {
  description = "What each function may call, by verb"
  value       = module.identity.function_policies
}

output "pipeline" {
  description = "Name of the pipeline"
  value       = module.models.pipeline_name
}

output "state_machine_arn" {
  description = "The retraining machine"
  value       = module.orchestration.machine_arn
}

output "retrain_url" {
  description = "POST here, signed with SigV4, to retrain"
  value       = module.orchestration.retrain_url
}

output "rules" {
  description = "Event rules, by trigger"
  value       = module.orchestration.rule_names
}

output "topic_arn" {
  description = "Topic of the alerts"
  value       = module.notification.topic_arn
}

output "alarms" {
  description = "Alarm names"
  value       = module.monitoring.alarm_names
}

output "endpoint" {
  description = "Name of the endpoint that deploy makes"
  value       = local.endpoint_name
}

output "platform_parameter" {
  description = "SSM parameter that tells the commands where everything is"
  value       = aws_ssm_parameter.platform.name
}

output "address" {
  description = "Address of the load balancer, or null"
  value       = one(module.entry[*].dns_name)
}
