"""dlt's sql_database; the backend is the last argument."""

import os
import sys
import tempfile

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
import dlt
from dlt.sources.sql_database import sql_database

dsn, schema, tables, kind, place, backend = sys.argv[1:]
if kind == "duckdb":
    destination, options = dlt.destinations.duckdb(place), {}
else:
    destination, options = dlt.destinations.filesystem(f"file://{place}"), {"loader_file_format": "parquet"}
more = {"backend_kwargs": {"conn": dsn, "protocol": "binary"}} if backend == "connectorx" else {}
source = sql_database(dsn, schema=schema, table_names=tables.split(","), backend=backend, chunk_size=100_000, **more)
with tempfile.TemporaryDirectory() as folder:
    pipeline = dlt.pipeline("bench", destination=destination, dataset_name="raw", pipelines_dir=folder)
    pipeline.run(source, write_disposition="replace", **options)
