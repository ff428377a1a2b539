# The smallest platform that does everything: no VPC, no load balancer, alerts by e-mail.
alert_emails = ["team@example.com"]
