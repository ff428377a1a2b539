#!/bin/sh
# check.sh: everything about infra/ that can be checked without an account. Run by `make infra-check`.
set -eu
cd "$(dirname "$0")"

say() { printf '\n== %s\n' "$1"; }

say "functions' zips"
python ../lambdas/build.py

say "format"
terraform fmt -check -recursive -diff

say "validate"
./terraform.sh init -backend=false -input=false > /dev/null
./terraform.sh validate -no-color
./terraform.sh -chdir=bootstrap init -backend=false -input=false > /dev/null
./terraform.sh -chdir=bootstrap validate -no-color

say "terraform test (mocked provider)"
./terraform.sh test -no-color

say "checkov"
checkov --config-file .checkov.yaml

say "plans, policies, contracts (pytest, parliament)"
cd .. && python -m pytest -q tests/test_infra.py
