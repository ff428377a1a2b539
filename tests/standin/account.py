"""What an account says of itself, and moto does not: quotas, cost tags, subscriptions that nobody has confirmed.

A new account is not generous: `quotas`, `concurrency` and `cost_tags` are what `skin-lesion doctor` finds in it.
"""

from __future__ import annotations

import json
from typing import Any

from moto.awslambda import urls
from moto.ce.responses import CostExplorerResponse
from moto.servicequotas.responses import ServiceQuotasResponse
from moto.sns.responses import SNSResponse

INSTANCES = ("ml.m5.xlarge", "ml.p3.2xlarge", "ml.g5.xlarge")
USES = ("training job usage", "spot training job usage", "processing job usage", "endpoint usage")
NEW = {f"{i} for {u}": 0.0 if "p3" in i else 4.0 for i in INSTANCES for u in USES}  # of an account of today

quotas: dict[str, float] = dict(NEW)  # SageMaker's, by name
cost_tags: dict[str, str] = {}  # key -> Active or Inactive
settings = dict(concurrency=10)  # functions at once
confirmed: set[str] = set()  # addresses that have clicked the link in AWS's mail
_installed = False


def reset() -> None:
    "A new account."
    quotas.clear()
    quotas.update(NEW)
    cost_tags.clear()
    confirmed.clear()
    settings["concurrency"] = 10


def install() -> None:
    "Put the answers into moto, once."
    global _installed
    if _installed:
        return
    _installed = True
    _quotas()
    _cost_tags()
    _functions()
    _subscriptions()


def _quotas() -> None:
    "Service Quotas: the list of SageMaker's."

    def list_service_quotas(self: Any) -> str:
        listed = [
            dict(ServiceCode="sagemaker", QuotaCode=f"L-{i:08X}", QuotaName=n, Value=v)
            for i, (n, v) in enumerate(quotas.items())
        ]
        return json.dumps(dict(Quotas=listed if json.loads(self.body)["ServiceCode"] == "sagemaker" else []))

    ServiceQuotasResponse.list_service_quotas = list_service_quotas
    ServiceQuotasResponse.list_aws_default_service_quotas = list_service_quotas


def _cost_tags() -> None:
    "Cost Explorer: tags that the bill can be divided by."

    def list_cost_allocation_tags(self: Any) -> str:
        wanted = json.loads(self.body).get("TagKeys") or list(cost_tags)
        found = [dict(TagKey=k, Type="UserDefined", Status=s) for k, s in cost_tags.items() if k in wanted]
        return json.dumps(dict(CostAllocationTags=found))

    def update_cost_allocation_tags_status(self: Any) -> str:
        for entry in json.loads(self.body)["CostAllocationTagsStatus"]:
            cost_tags[entry["TagKey"]] = entry["Status"]
        return json.dumps(dict(Errors=[]))

    CostExplorerResponse.list_cost_allocation_tags = list_cost_allocation_tags
    CostExplorerResponse.update_cost_allocation_tags_status = update_cost_allocation_tags_status


def _functions() -> None:
    "Lambda: how many functions may run at once."

    def account_settings(request: Any, full_url: str, headers: Any) -> tuple[int, dict, str]:
        limit = dict(
            ConcurrentExecutions=settings["concurrency"], UnreservedConcurrentExecutions=settings["concurrency"]
        )
        return 200, {}, json.dumps(dict(AccountLimit=limit, AccountUsage=dict(FunctionCount=0, TotalCodeSize=0)))

    urls.url_paths[r"{0}/(?P<api_version>[^/]+)/account-settings/?$"] = account_settings


def _subscriptions() -> None:
    "SNS: an e-mail address is pending until its owner confirms."
    listed = SNSResponse.list_subscriptions_by_topic

    def list_subscriptions_by_topic(self: Any) -> Any:
        answer = listed(self)
        found = [
            dict(
                SubscriptionArn=s.arn,
                **{k.title(): getattr(s, k) for k in ("owner", "protocol", "endpoint")},
                TopicArn=s.topic_arn,
            )
            for s in answer.result["Subscriptions"]
        ]
        for s in found:
            if s["Protocol"] == "email" and s["Endpoint"] not in confirmed:
                s["SubscriptionArn"] = "PendingConfirmation"
        answer.result["Subscriptions"] = found
        return answer

    SNSResponse.list_subscriptions_by_topic = list_subscriptions_by_topic
