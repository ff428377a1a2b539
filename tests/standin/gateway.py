"The HTTP API's front door: reads the routes back from moto and does what they say. moto keeps them, and no door."

from __future__ import annotations

import json
import re
import threading
import uuid
from typing import Any, Callable, Iterable
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tests.standin import faults


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        "No access log."


def serve(
    port: int = 0,  # 0: any free one
) -> WSGIServer:
    "Open the door on the loopback address: http://127.0.0.1:PORT/API_ID/path."
    server = make_server("127.0.0.1", port, app, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def app(env: dict, start: Callable) -> Iterable[bytes]:
    "Answer one request."
    api, _, path = env["PATH_INFO"].lstrip("/").partition("/")
    body = env["wsgi.input"].read(int(env.get("CONTENT_LENGTH") or 0)).decode()
    signed = "AWS4-HMAC-SHA256" in env.get("HTTP_AUTHORIZATION", "")
    status, answer = respond(api, f"{env['REQUEST_METHOD']} /{path}", body, signed)
    start(f"{status} {'OK' if status < 300 else 'Refused'}", [("Content-Type", "application/json")])
    return [json.dumps(answer, default=str).encode()]


def respond(
    api: str,
    route: str,  # e.g. "POST /retrain"
    body: str,
    signed: bool,  # does the request carry a signature? (It is not verified.)
) -> tuple[int, dict]:
    "Find the route, check the signature, call the integration."
    gateway = faults.client("apigatewayv2", "gateway")
    found = next((r for r in gateway.get_routes(ApiId=api)["Items"] if r["RouteKey"] == route), None)
    if found is None:
        return 404, dict(message="Not Found")
    if found.get("AuthorizationType") == "AWS_IAM" and not signed:
        return 403, dict(message="Forbidden")
    integration = gateway.get_integration(ApiId=api, IntegrationId=found["Target"].split("/")[-1])
    given = {k: _filled(v, body) for k, v in integration.get("RequestParameters", {}).items()}
    try:
        return INTEGRATIONS[integration.get("IntegrationSubtype", "")](given, integration, body)
    except faults.ClientError as e:
        return 400, dict(message=str(e))


def _filled(
    template: str,  # e.g. "$request.body.reason"
    body: str,
) -> str:
    "Fill in a parameter mapping."
    context = {"$context.requestId": str(uuid.uuid4()), "$request.body": body}
    if template in context:
        return context[template]

    def value(m: re.Match) -> str:
        found = json.loads(body)
        for part in m.group(1).split("."):
            found = found[part]
        return found if isinstance(found, str) else json.dumps(found)

    return re.sub(r"\$\{?request\.body\.([\w.]+)\}?", value, template).replace("${request.body}", body)


def _start_execution(given: dict, integration: dict, body: str) -> tuple[int, dict]:
    x = faults.client("stepfunctions", "gateway").start_execution(
        stateMachineArn=given["StateMachineArn"], input=given.get("Input") or "{}"
    )
    return 200, dict(executionArn=x["executionArn"], startDate=x["startDate"])


def _put_events(given: dict, integration: dict, body: str) -> tuple[int, dict]:
    entry = {k: given[k] for k in ("Source", "DetailType", "Detail", "EventBusName") if k in given}
    answer = faults.client("events", "gateway").put_events(Entries=[entry])
    return 200, dict(Entries=answer["Entries"], FailedEntryCount=answer["FailedEntryCount"])


def _function(given: dict, integration: dict, body: str) -> tuple[int, dict]:
    name = re.sub(r".*functions/(.*)/invocations", r"\1", integration["IntegrationUri"])
    event = dict(version="2.0", body=body, isBase64Encoded=False, requestContext=dict(requestId=str(uuid.uuid4())))
    answer = faults.client("lambda", "gateway").invoke(FunctionName=name, Payload=json.dumps(event))
    proxy = json.load(answer["Payload"])
    return int(proxy.get("statusCode", 200)), json.loads(proxy.get("body") or "{}")


INTEGRATIONS: dict[str, Callable[[dict, dict, str], tuple[int, dict]]] = {
    "StepFunctions-StartExecution": _start_execution,
    "EventBridge-PutEvents": _put_events,
    "": _function,
}
