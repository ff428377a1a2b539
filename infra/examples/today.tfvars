# On top of minimal or hipaa, in an account of today: ml.p3 is the mission's machine, but new accounts have none of it and
# regions retire it. Ask for the quota "ml.g5.xlarge for spot training job usage" first. The machine has a disk of its own
# (250 GB, the most that volume_size_gb may ask for), so its volume takes no key of ours; Terraform leaves it out.
training_instance_type = "ml.g5.xlarge"
