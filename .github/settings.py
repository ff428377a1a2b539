#!/usr/bin/env python3
"settings.py NAME...: end the job unless each of these variables is set. SETTINGS in the environment is toJSON(vars)."

import json
import os
import sys

have = json.loads(os.environ["SETTINGS"])
missing = [name for name in sys.argv[1:] if not have.get(name)]
for name in missing:
    print(
        f"::error title=Variable {name} is not set::gh variable set {name}: infra/README.md, From GitHub, says what it"
        " holds. Without an AWS account: gh variable set DEPLOY --body off"
    )
sys.exit(bool(missing))
