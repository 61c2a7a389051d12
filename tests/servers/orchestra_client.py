"""Runs the official command line of Orchestra, one line of JSON after the other: it takes long to import.

In: ``{"arguments": [...], "input": "", "environ": {}, "folder": ""}``. Out: ``{"code": 0, "output": ""}``.
"""

import json
import os
import sys
import time

from orchestra_cli.src.cli import app
from typer.testing import CliRunner

_sleep = time.sleep
# It looks every 5 seconds at a run, and every 2 at a log.
time.sleep = lambda seconds: _sleep(seconds / 25)

for line in sys.stdin:
    asked = json.loads(line)
    os.chdir(asked["folder"])
    os.environ.update(asked["environ"])
    result = CliRunner().invoke(app, asked["arguments"], input=asked["input"])
    error = result.exception
    failed = "" if error is None or isinstance(error, SystemExit) else f"\n{error!r}"
    sys.stdout.write(json.dumps({"code": result.exit_code, "output": result.output + failed}) + "\n")
    sys.stdout.flush()
