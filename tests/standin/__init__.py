"""An AWS that runs on this machine: moto's server, with what moto leaves out.

moto keeps the state of a hundred services and answers for them. It does not *do* much: an alarm rings nobody, a
pipeline succeeds without running, a function needs Docker. Each module here makes one part do its work, and each change
to moto has a comment that says what it replaces:

    functions.py    Lambda: the real zips, in warm subprocesses, under a time limit
    states.py       Step Functions: executes the real state machine, minutes in milliseconds
    events.py       EventBridge: a rule's event reaches functions, state machines and topics; schedules tick on request
    sagemaker.py    pipelines run, endpoints update and roll back, the registry reports approvals
    account.py      quotas, cost tags, unconfirmed addresses: what an account answers of itself
    alarms.py       CloudWatch: an alarm that goes off acts and is reported
    gateway.py      the HTTP API's front door
    refusals.py     what AWS refuses and moto forgives, each with the place where AWS says so
    provider.py     what the AWS provider for Terraform sets and reads back
    terraform.py    Terraform itself, on a copy of infra/
    recorded.py     which calls Terraform makes, as IAM's actions
    faults.py       makes a chosen call fail, and remembers every call that was made
    server.py       all of the above on one loopback port
    platform.py     the platform without Terraform, for tests of the parts

`python -m tests.standin` serves until it is interrupted, for `terraform apply` and for `make sandbox`.
"""
