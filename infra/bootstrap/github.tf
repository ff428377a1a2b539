# GitHub's side: the workflows of one repository assume two roles with tokens of an hour (OIDC), never with keys. `plan` reads,
# for pull requests; `deploy` makes the platform, for main. Without github_repository there is none of it.

locals {
  issuer   = "token.actions.githubusercontent.com"
  provider = "arn:${local.partition}:iam::${local.account_id}:oidc-provider/${local.issuer}"
  github   = var.github_repository != null

  # Whose token is trusted: a job's subject names the repository and, where it has one, the environment; its branch is in `ref`.
  trusted = { for role, claims in {
    plan   = { sub = ["repo:${coalesce(var.github_repository, "none")}:pull_request"], ref = [] }
    deploy = { sub = [for e in var.github_environments : "repo:${coalesce(var.github_repository, "none")}:environment:${e}"], ref = ["refs/heads/main"] }
  } : role => claims if local.github }
}

resource "aws_iam_openid_connect_provider" "github" {
  count = local.github && var.create_oidc_provider ? 1 : 0

  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "trust" {
  #checkov:skip=CKV_AWS_358:The conditions are dynamic, which checkov does not follow; tests/test_bootstrap.py reads what comes of them
  for_each = local.trusted

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [local.provider]
    }

    dynamic "condition" {
      for_each = { for claim, values in merge(each.value, { aud = ["sts.amazonaws.com"] }) : claim => values if length(values) > 0 }

      content {
        test     = "StringEquals"
        variable = "${local.issuer}:${condition.key}"
        values   = condition.value
      }
    }
  }
}

# The roles are named outside ${name}-*, which is what `deploy` may change.
resource "aws_iam_role" "github" {
  for_each = local.trusted

  name                 = "github-${var.name}-${each.key}"
  description          = each.key == "plan" ? "Pull requests of ${var.github_repository}: terraform plan, which reads" : "main of ${var.github_repository}: images, terraform apply, pipeline, a question to the endpoint"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = 3600

  depends_on = [aws_iam_openid_connect_provider.github]
}

resource "aws_iam_policy" "github" {
  for_each = data.aws_iam_policy_document.github

  name        = "github-${var.name}-${each.key}"
  description = "Part of what the workflows of ${coalesce(var.github_repository, "none")} may do"
  policy      = each.value.json
}

resource "aws_iam_role_policy_attachment" "github" {
  for_each = { for pair in concat([["plan", "read"]], [for part in keys(data.aws_iam_policy_document.github) : ["deploy", part]]) : join(" ", pair) => pair if local.github }

  role       = aws_iam_role.github[each.value[0]].name
  policy_arn = aws_iam_policy.github[each.value[1]].arn
}
