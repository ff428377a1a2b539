"Terraform, on a copy of infra/ whose provider talks to the AWS on this machine."

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.standin import server

REPO = Path(__file__).resolve().parents[2]
INFRA = REPO / "infra"
EXAMPLES = ("minimal", "hipaa")
HERE = """
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}
"""
OVERRIDE = 'terraform {\n  backend "local" {}\n}\nprovider "aws" {' + HERE
REPLICA = 'provider "aws" {\n  alias = "replica"' + HERE


class Refused(AssertionError):
    "Terraform did not do what it was told."


class Root:
    "One Terraform root."

    def __init__(
        self,
        folder: Path,  # empty; the copy goes there
        url: str,  # of the AWS
        root: str = "",  # a folder of infra/, e.g. "bootstrap"; infra/ itself when empty
    ):
        skipped = shutil.ignore_patterns(".terraform", "*.tfstate*", "diagram", "*.tfplan")
        shutil.copytree(INFRA, folder / "infra", ignore=skipped)
        shutil.copytree(REPO / "skin_lesion_mlops", folder / "skin_lesion_mlops", ignore=lambda *_: ["__pycache__"])
        self.folder = folder / "infra" / root
        (self.folder / "zz_override.tf").write_text(OVERRIDE + ("" if root else REPLICA))
        build = [sys.executable, REPO / "lambdas" / "build.py", folder / "build" / "lambdas"]
        subprocess.run(build, check=True, capture_output=True)
        keys = dict(AWS_ACCESS_KEY_ID="operator", AWS_SECRET_ACCESS_KEY="standin", AWS_REGION="us-east-1")
        self.env = {"GOGC": "400", **os.environ, **keys, "AWS_ENDPOINT_URL": url}  # a quarter less time than at 100
        self.given: list[str] = []  # -var and -var-file, with every command that takes them
        self("init", "-input=false")
        self._trust_the_provider()

    def _trust_the_provider(self) -> None:
        "Terraform hashes 700 MB at every command, but for a provider that is said to be under development."
        (found,) = self.folder.glob(".terraform/providers/*/hashicorp/aws/*/*")
        config = self.folder / "trusted.tfrc"
        config.write_text(f'provider_installation {{\n  dev_overrides {{\n    "hashicorp/aws" = "{found}"\n  }}\n}}\n')
        self.env["TF_CLI_CONFIG_FILE"] = str(config)

    def __call__(self, *args: str) -> str:
        "Run terraform; raises `Refused` with its complaint."
        done = subprocess.run(
            [INFRA / "terraform.sh", *args], cwd=self.folder, env=self.env, capture_output=True, text=True
        )
        if done.returncode:
            raise Refused(f"terraform {' '.join(args)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def do(self, verb: str, *args: str) -> str:
        "apply, plan or destroy, with what this root was given."
        sure = () if verb == "plan" else ("-auto-approve",)
        return self(verb, *sure, "-input=false", "-no-color", "-parallelism=30", *self.given, *args)

    def apply(self, *args: str) -> int:
        "Make everything; how many resources were made or changed."
        return sum(map(int, re.findall(r"(\d+) (?:added|changed)", self.do("apply", *args))))

    def settled(self, *args: str) -> bool:
        "Has a second plan nothing to do? Raises `Refused`, with the plan, where it has."
        return "No changes" in self.do("plan", "-detailed-exitcode", *args)

    def destroy(self, *args: str) -> int:
        "Remove everything; how many resources went."
        gone = sum(map(int, re.findall(r"(\d+) destroyed", self.do("destroy", *args))))
        if left := self("state", "list").split():
            raise Refused(f"destroy left {', '.join(left)}")
        return gone

    def output(self, name: str) -> object:
        "An output's value."
        return json.loads(self("output", "-json", name))


def make_plan(example: str, folder: str) -> dict:
    "An example's plan as JSON; key, roles and buckets are there, so their ARNs are known. In a process of its own."
    running = server.serve()
    try:
        root = Root(Path(folder), running.url)
        root.given = [f"-var-file=examples/{example}.tfvars"]
        root.apply("-target=module.identity", "-target=module.storage.aws_s3_bucket_policy.this")
        root.do("plan", "-out=tfplan")
        return json.loads(root("show", "-json", "tfplan"))
    finally:
        running.stop()
