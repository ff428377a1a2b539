output "dns_name" {
  description = "Address of the load balancer; point host_name at it"
  value       = aws_lb.this.dns_name
}

output "user_pool_id" {
  description = "User pool, to add users to"
  value       = aws_cognito_user_pool.this.id
}
