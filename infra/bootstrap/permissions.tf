# What GitHub's roles may do. actions.json has the calls that Terraform makes for the platform, as a test records them, and the
# updates that it could make; what deletes data (buckets, keys, registry, images, logs, the trail) is not among them. Who sets
# the policies of buckets and keys and makes functions can reach what is in them, all the same: so `deploy` is main's alone.

locals {
  recorded = jsondecode(file("${path.module}/actions.json"))
  reads    = sort(concat(local.recorded.minimal.read, var.platform == "hipaa" ? local.recorded.hipaa.read : []))
  here     = "${var.region}:${local.account_id}"
  arn      = "arn:${local.partition}"

  # What a service's writes may touch: what bears the platform's name, where AWS lets it be named.
  touched = {
    apigateway = [for path in ["apis", "apis/*", "tags/*"] : "${local.arn}:apigateway:${var.region}::/${path}"]
    budgets    = ["${local.arn}:budgets::${local.account_id}:budget/${var.name}-*"]
    cloudtrail = ["${local.arn}:cloudtrail:${local.here}:trail/${var.name}"]
    cloudwatch = ["${local.arn}:cloudwatch:${local.here}:alarm:${var.name}-*", "${local.arn}:cloudwatch::${local.account_id}:dashboard/${var.name}*"]
    ecr        = ["${local.arn}:ecr:${local.here}:repository/${var.name}-*"]
    events     = ["${local.arn}:events:${local.here}:rule/${var.name}-*"]
    lambda     = ["${local.arn}:lambda:${local.here}:function:${var.name}-*"]
    logs       = [for group in ["*${var.name}*", "/aws/sagemaker/*"] : "${local.arn}:logs:${local.here}:log-group:${group}"]
    s3         = ["${local.arn}:s3:::${var.name}-*"]
    sagemaker  = [for kind in ["pipeline", "model-package-group"] : "${local.arn}:sagemaker:${local.here}:${kind}/${var.name}-*"]
    scheduler  = ["${local.arn}:scheduler:${local.here}:schedule/${var.name}*/*", "${local.arn}:scheduler:${local.here}:schedule-group/${var.name}*"]
    sns        = ["${local.arn}:sns:${local.here}:${var.name}-*"]
    sqs        = ["${local.arn}:sqs:${local.here}:${var.name}-*"]
    ssm        = ["${local.arn}:ssm:${local.here}:parameter/${var.name}/*"]
    states     = ["${local.arn}:states:${local.here}:stateMachine:${var.name}-*"]
  }
  touched_by_hipaa = {
    cognito-idp          = ["${local.arn}:cognito-idp:${local.here}:userpool/*"]
    ec2                  = ["${local.arn}:ec2:${local.here}:*"]
    elasticloadbalancing = [for kind in ["loadbalancer/app/${var.name}*/*", "listener/app/${var.name}*/*/*", "targetgroup/${var.name}*/*"] : "${local.arn}:elasticloadbalancing:${local.here}:${kind}"]
    s3                   = ["${local.arn}:s3:::${var.name}-*"]
    secretsmanager       = ["${local.arn}:secretsmanager:${local.here}:secret:${var.name}/*"]
    wafv2                = ["${local.arn}:wafv2:${local.here}:regional/webacl/${var.name}*/*", "${local.arn}:elasticloadbalancing:${local.here}:loadbalancer/app/${var.name}*/*"]
  }
  # Actions that name no resource (AWS service authorization reference).
  nameless = [
    "cognito-idp:CreateUserPool", "elasticloadbalancing:SetWebAcl", "kms:CreateKey", "logs:DeleteResourcePolicy", "logs:PutResourcePolicy",
    "sns:SetSubscriptionAttributes", "sns:Unsubscribe",
  ]

  # Weights and classes of nobody, and a memory of nothing: the objects that an input must hold, and the only ones that Terraform makes in a data bucket.
  empty_inputs = [for n in ["weights", "classes", "tested"] : "${local.arn}:s3:::${var.name}-models-artifacts-*/${n}/none/*"]

  key             = "${local.arn}:kms:*:${local.account_id}:key/*"
  of_the_platform = [{ test = "ForAnyValue:StringEquals", variable = "kms:ResourceAliases", values = ["alias/${var.name}-classification-key"] }]

  # Part -> statements; a part is one policy, for AWS takes 6,144 characters at a time.
  parts = {
    read = [
      { sid = "Look", actions = local.reads, resources = ["*"], conditions = [] },
      { sid = "FindState", actions = ["s3:ListBucket"], resources = [aws_s3_bucket.this.arn], conditions = [] },
      { sid = "ReadState", actions = ["s3:GetObject"], resources = ["${aws_s3_bucket.this.arn}/*"], conditions = [] },
      { sid = "DecryptState", actions = ["kms:Decrypt"], resources = [aws_kms_key.this.arn], conditions = [] },
      { sid = "FindPlatform", actions = ["ssm:GetParameter"], resources = local.touched.ssm, conditions = [] },
      { sid = "ReadEmptyInputs", actions = ["s3:GetObject", "s3:GetObjectTagging"], resources = local.empty_inputs, conditions = [] },
      # What is encrypted with the platform's key, through the service that holds it; of S3 these are the objects above and no others.
      { sid = "DecryptSettings", actions = ["kms:Decrypt"], resources = [local.key], conditions = concat(local.of_the_platform, [
        { test = "StringEquals", variable = "kms:ViaService", values = [for s in ["lambda", "s3", "scheduler", "ssm", "states"] : "${s}.${var.region}.amazonaws.com"] },
      ]) },
    ]
    write = concat(
      [for service, arns in local.touched : { sid = "Write${replace(title(service), "-", "")}", actions = [for a in local.recorded.minimal.write : a if startswith(a, "${service}:") && !contains(local.nameless, a)], resources = arns, conditions = [] }],
      [{ sid = "WriteNameless", actions = [for a in local.recorded.minimal.write : a if contains(local.nameless, a)], resources = ["*"], conditions = [] }]
    )
    # A key is the platform's by its tag; a new one is tagged while it is made.
    access = [
      { sid = "WriteKeys", actions = [for a in local.recorded.minimal.write : a if startswith(a, "kms:") && !strcontains(a, "Alias") && !contains(local.nameless, a)], resources = [local.key], conditions = [
        { test = "StringEquals", variable = "aws:ResourceTag/Project", values = [var.name] },
      ] },
      { sid = "WriteAliases", actions = ["kms:CreateAlias", "kms:DeleteAlias"], resources = ["${local.arn}:kms:*:${local.account_id}:alias/${var.name}-*", local.key], conditions = [] },
      # Roles of the platform, and none without the boundary: otherwise this role could make one that may do everything.
      { sid = "WriteRoles", actions = ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"], resources = ["${local.arn}:iam::${local.account_id}:role/${var.name}-*"], conditions = [
        { test = "StringEquals", variable = "iam:PermissionsBoundary", values = [aws_iam_policy.boundary.arn] },
      ] },
      { sid = "NameRoles", actions = ["iam:DeleteRole", "iam:TagRole", "iam:UntagRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole"], resources = ["${local.arn}:iam::${local.account_id}:role/${var.name}-*"], conditions = [] },
      { sid = "PassRoles", actions = ["iam:PassRole"], resources = ["${local.arn}:iam::${local.account_id}:role/${var.name}-*"], conditions = [
        { test = "StringEquals", variable = "iam:PassedToService", values = [for s in ["apigateway", "cloudtrail", "events", "lambda", "s3", "sagemaker", "scheduler", "states", "vpc-flow-logs"] : "${s}.amazonaws.com"] },
      ] },
    ]
    # What services do in the caller's name while they are set up, and what the jobs do beside `terraform apply`.
    work = [
      { sid = "WriteState", actions = ["s3:DeleteObject", "s3:PutObject"], resources = ["${aws_s3_bucket.this.arn}/*"], conditions = [] },
      { sid = "EncryptState", actions = ["kms:GenerateDataKey"], resources = [aws_kms_key.this.arn], conditions = [] },
      { sid = "UseKey", actions = ["kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"], resources = [local.key], conditions = local.of_the_platform },
      { sid = "LendKey", actions = ["kms:CreateGrant"], resources = [local.key], conditions = concat(local.of_the_platform, [
        { test = "Bool", variable = "kms:GrantIsForAWSResource", values = ["true"] },
      ]) },
      { sid = "WriteEmptyInputs", actions = ["s3:PutObject", "s3:PutObjectTagging"], resources = local.empty_inputs, conditions = [] },
      { sid = "DeliverLogs", actions = ["logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:UpdateLogDelivery"], resources = ["*"], conditions = [] },
      { sid = "SignInToImages", actions = ["ecr:GetAuthorizationToken"], resources = ["*"], conditions = [] },
      { sid = "PullBases", actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], resources = [for base in local.bases : "${local.arn}:ecr:${var.region}:*:repository/${base}"], conditions = [] },
      { sid = "PushImages", actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"], resources = local.touched.ecr, conditions = [] },
      { sid = "AskEndpoint", actions = ["sagemaker:DescribeEndpoint", "sagemaker:InvokeEndpoint"], resources = ["${local.arn}:sagemaker:${local.here}:endpoint/${var.name}-*"], conditions = [] },
    ]
    hipaa = [for statement in concat(
      [for service, arns in local.touched_by_hipaa : { sid = "Write${replace(title(service), "-", "")}", actions = [for a in local.recorded.hipaa.write : a if startswith(a, "${service}:") && !contains(local.nameless, a)], resources = arns, conditions = [] }],
      [
        { sid = "WriteNameless", actions = [for a in local.recorded.hipaa.write : a if contains(local.nameless, a)], resources = ["*"], conditions = [] },
        { sid = "LetServicesIn", actions = ["iam:CreateServiceLinkedRole"], resources = ["${local.arn}:iam::${local.account_id}:role/aws-service-role/*"], conditions = [
          { test = "StringEquals", variable = "iam:AWSServiceName", values = ["elasticloadbalancing.amazonaws.com", "wafv2.amazonaws.com"] },
        ] },
      ],
    ) : statement if var.platform == "hipaa"]
  }
  # AWS's own containers, which ours are built on.
  bases = ["pytorch-inference", "pytorch-training", "sagemaker-scikit-learn"]
}

data "aws_iam_policy_document" "github" {
  #checkov:skip=CKV_AWS_356:Settings are read by calls that name no resource; no object, secret or parameter is read so
  #checkov:skip=CKV_AWS_111:What names no resource is in local.nameless, and named by AWS's reference
  #checkov:skip=CKV_AWS_109:Roles are bounded by the condition on iam:PermissionsBoundary
  for_each = { for part, statements in local.parts : part => statements if local.github && length(statements) > 0 }

  dynamic "statement" {
    for_each = { for s in each.value : s.sid => s }

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = statement.value.resources

      dynamic "condition" {
        for_each = statement.value.conditions

        content {
          test     = condition.value.test
          variable = condition.value.variable
          values   = condition.value.values
        }
      }
    }
  }
}

# The most that a role of the platform may ever do, whatever its own policy says: its services, and of IAM only to pass the
# platform's roles on. It grants nothing by itself.
data "aws_iam_policy_document" "boundary" {
  #checkov:skip=CKV_AWS_107:A boundary grants nothing: it is the most that the platform's own policies may grant
  #checkov:skip=CKV_AWS_108:A boundary grants nothing: it is the most that the platform's own policies may grant
  #checkov:skip=CKV_AWS_109:A boundary grants nothing: it is the most that the platform's own policies may grant
  #checkov:skip=CKV_AWS_111:A boundary grants nothing: it is the most that the platform's own policies may grant
  #checkov:skip=CKV_AWS_356:A boundary grants nothing: it is the most that the platform's own policies may grant
  statement {
    sid = "Services"
    actions = [for s in [
      "application-autoscaling", "cloudwatch", "ec2", "ecr", "kms", "lambda", "logs", "s3", "sagemaker", "secretsmanager", "sns", "sqs", "states", "xray",
    ] : "${s}:*"]
    resources = ["*"]
  }

  statement {
    sid       = "PassPlatformsRoles"
    actions   = ["iam:PassRole"]
    resources = ["${local.arn}:iam::${local.account_id}:role/${var.name}-*"]
  }

  statement {
    sid       = "ScaleEndpoint"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["${local.arn}:iam::${local.account_id}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/*"]
  }
}

resource "aws_iam_policy" "boundary" {
  #checkov:skip=CKV_AWS_355:A boundary grants nothing: it is the most that the platform's own policies may grant
  #checkov:skip=CKV_AWS_288:A boundary grants nothing: it is the most that the platform's own policies may grant
  #checkov:skip=CKV_AWS_289:A boundary grants nothing: it is the most that the platform's own policies may grant
  #checkov:skip=CKV_AWS_290:A boundary grants nothing: it is the most that the platform's own policies may grant
  name        = "${var.name}-boundary"
  description = "The most that a role of ${var.name} may do"
  policy      = data.aws_iam_policy_document.boundary.json
}
