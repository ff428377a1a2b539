"S3: conditional writes, and what a lifecycle rule keeps."

from __future__ import annotations

import threading
from typing import Any

from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response

_installed = False


def install() -> None:
    "Put the changes into moto, once."
    global _installed
    if _installed:
        return
    _installed = True
    _one_conditional_write_at_a_time()
    _versions_that_outlive_their_days()


def _one_conditional_write_at_a_time() -> None:
    "Of several writes on the same condition one wins. moto tests the condition and writes in two steps."
    put, lock = S3Response.put_object, threading.Lock()

    def put_object(self: Any) -> Any:
        if self.headers.get("If-None-Match") or self.headers.get("If-Match"):
            with lock:
                return put(self)
        return put(self)

    S3Response.put_object = put_object


def _versions_that_outlive_their_days() -> None:
    "A lifecycle rule may keep the newest noncurrent versions; moto forgets how many."
    put, serialized = FakeBucket.set_lifecycle, S3Response.serialized

    def set_lifecycle(self: Any, rules: list[dict[str, Any]]) -> None:
        put(self, rules)
        self.kept = [(r.get("NoncurrentVersionExpiration") or {}).get("NewerNoncurrentVersions") for r in rules]

    def with_kept(self: Any, answer: Any) -> Any:
        if self.data.get("Action") == "GetBucketLifecycleConfiguration" and isinstance(answer.result, dict):
            for rule, kept in zip(answer.result["Rules"], self.backend.get_bucket(self.bucket_name).kept):
                rule.get("NoncurrentVersionExpiration", {}).update(dict(NewerNoncurrentVersions=kept) if kept else {})
        return serialized(self, answer)

    FakeBucket.set_lifecycle = set_lifecycle
    S3Response.serialized = with_kept
