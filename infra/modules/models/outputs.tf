output "pipeline_arn" {
  description = "ARN of the pipeline"
  value       = aws_sagemaker_pipeline.this.arn
}

output "pipeline_name" {
  description = "Name of the pipeline"
  value       = aws_sagemaker_pipeline.this.pipeline_name
}

output "model_package_group" {
  description = "Name of the model package group"
  value       = aws_sagemaker_model_package_group.this.model_package_group_name
}
