# On top of minimal or hipaa, to try everything at once: all of it may be destroyed, and a small model on few images is
# good enough.
environment = "dev"
sandbox     = true

training_instance_type = "ml.m5.xlarge" # no GPU, for which a new account has no quota

min_new_samples = 100

pipeline_parameters = {
  Arch              = "tiny"
  Weights           = "none"
  ImageSize         = "64"
  Epochs            = "12"
  AccuracyThreshold = "0.2"
}
