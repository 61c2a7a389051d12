"""dlt's own engine over a configuration: ``python -m tests.integration.rest_pipeline FILE``; run apart from the tests."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(config: str, warehouse: str, folder: str) -> None:
    """Load a configuration into a DuckDB file."""
    os.environ.update(RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="CRITICAL")
    import dlt
    from dlt.sources.rest_api import rest_api_source

    from tests.integration.rest_configs import CONFIGS

    given = CONFIGS[config]() if config in CONFIGS else json.loads(Path(config).read_text("utf-8"))
    pipeline = dlt.pipeline(
        "theirs", pipelines_dir=folder, destination=dlt.destinations.duckdb(warehouse), dataset_name="raw"
    )
    pipeline.run(rest_api_source(given, max_table_nesting=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
