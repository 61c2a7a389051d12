"""ingestr, one process a table, as its command line has it."""

import subprocess
import sys
from pathlib import Path

dsn, schema, tables, _, place = sys.argv[1:]
# An environment may have moved since its scripts were written.
ingestr = [sys.executable, "-c", "from ingestr.main import main; main()"]
for table in tables.split(","):
    subprocess.run(
        [
            *ingestr, "ingest", "--source-uri", dsn, "--source-table", f"{schema}.{table}",
            "--dest-uri", f"duckdb:///{place}", "--dest-table", f"raw.{table}", "--yes", "--progress", "log",
        ],
        check=True,
        env={"DISABLE_TELEMETRY": "true", "INGESTR_DISABLE_TELEMETRY": "true", "HOME": str(Path(place).parent), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
