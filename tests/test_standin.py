"One stand-in serves all the tests of a process: each file of them finds it as if it were new."

import os

import pytest

pytest.importorskip("moto")
from tests import sandbox  # noqa: E402
from tests.standin import faults, pipelines, platform, provider, sagemaker, states  # noqa: E402
from tests.test_retraining import PIPELINE, SCHEDULE  # noqa: E402


def test_a_file_finds_an_empty_account_and_leaves_its_environment(standin, tmp_path):
    before = dict(os.environ)
    standin.enter()
    try:
        assert os.environ["AWS_ENDPOINT_URL"] == standin.url == faults.url
        sagemaker.executor, states.scale = pipelines.pretend, 0.001
        p = platform.create(standin, tmp_path, PIPELINE)
        p.upload(4)
        p.start(SCHEDULE)
        assert {m["outcome"] for m in p.messages(1)} == {"awaiting-approval"}
        pipelines.ending, sagemaker.endpoint_fate = "Failed", "RolledBack"
        faults.record.faults.append(faults.Fault("states", "Publish", "denied"))
        provider._tags["budget:a"] = []
        assert len(sandbox.remains(standin)) > 10 and states.waits
    finally:
        standin.leave()
    assert dict(os.environ) == before and not faults.url and sagemaker.executor is None

    standin.enter()
    try:
        assert not sandbox.remains(standin)
        assert not standin.client("sagemaker").list_model_package_groups()["ModelPackageGroupSummaryList"]
        assert not (states.waits or states.retries or faults.record.faults or faults.record.counts or provider._tags)
        assert (pipelines.ending, sagemaker.endpoint_fate) == ("Ended", "Deployed")
    finally:
        standin.leave()
    assert dict(os.environ) == before
