# For patients' images: private network, sign-in in front of the endpoint, six years of logs, copies in a second region.
environment = "prod"

enable_vpc      = true
enable_alb      = true
host_name       = "predict.example.org"
certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
allowed_cidrs   = ["192.0.2.0/24"]

replica_region     = "us-west-2"
log_retention_days = 2192 # six years
trail_days         = 2192

approval_mode = "manual"
alert_emails  = ["team@example.com"]
enable_slack  = true

pipeline_parameters = {
  AccuracyThreshold       = "0.85"
  MinMalignantSensitivity = "0.9"
  MinChampionDifference   = "0" # not worse than the approved model, beyond noise
}
