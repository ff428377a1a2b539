#!/bin/sh
# check.sh: everything about infra/ and the workflows that can be checked without an account. Run by `make infra-check`.
set -eu
cd "$(dirname "$0")"

say() { printf '\n== %s\n' "$1"; }

tools=$PWD/../build/infra-tools
if ! cmp -s requirements.txt "$tools/requirements.txt"; then
    say "scanners into build/infra-tools (once)"
    python -m venv --clear "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$tools/"
fi

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
"$tools/bin/checkov" --config-file .checkov.yaml

say "workflows (actionlint, zizmor)"
(cd .. && PATH="$tools/bin:$PATH" actionlint)
"$tools/bin/zizmor" --offline --quiet --no-progress ../.github

# The plan of each example, and GitHub's roles: contracts, tf-nag (a second scanner), parliament (the policies).
say "plans (pytest, tf-nag, parliament)"
cd .. && PATH="$PATH:$tools/bin" python -m pytest -q tests/test_infra.py tests/test_bootstrap.py -m "not slow"
