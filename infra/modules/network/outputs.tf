output "vpc_id" {
  description = "ID of the VPC"
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "IDs of the private subnets"
  value       = [for s in aws_subnet.private : s.id]
}

output "public_subnet_ids" {
  description = "IDs of the public subnets, empty without the load balancer"
  value       = [for s in aws_subnet.public : s.id]
}

output "security_group_id" {
  description = "Security group of jobs and functions"
  value       = aws_security_group.sagemaker.id
}
