"""Sling to CSV, one process a table, as its command line has it."""

import os
import subprocess
import sys
from pathlib import Path

dsn, schema, tables, _, place = sys.argv[1:]
sling = next(Path(sys.prefix).glob("lib/python*/site-packages/sling_linux_amd64/bin/sling*"))
for table in tables.split(","):
    subprocess.run(
        [sling, "run", "--src-conn", f"{dsn}?sslmode=disable", "--src-stream", f"{schema}.{table}",
         "--tgt-object", f"file://{place}/{table}.csv"],
        check=True,
        env={**os.environ, "SLING_DISABLE_TELEMETRY": "TRUE", "HOME": place},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
