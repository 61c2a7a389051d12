"""dlt's record of the dataset: the only file that calls dlt's lightly documented API (dlt 1.31).

After a run, tables that dlt's stored schema does not know yet are added to it (``_dlt_version``), so
that an ordinary dlt pipeline with the dataset's name goes on with the same tables. The rows are already
published by then: registering again is harmless, and a run that is killed before it registers leaves
that to the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from runner.load import Target, TargetColumn


@dataclass(frozen=True)
class RegistryClient:
    """How dlt reaches a dataset.

    Attributes:
        destination: dlt's name of the destination.
        credentials: What dlt takes as credentials; never logged.
        lock: Held while dlt writes.
        bounded: Hangs up on a server that is silent for too long, given the driver's connection.
    """

    destination: str
    credentials: str
    dataset: str
    lock: Callable[[], AbstractContextManager[Any]]
    bounded: Callable[[Any], AbstractContextManager[Any]] = contextlib.nullcontext


def register(client: RegistryClient, targets: list[Target]) -> None:
    """Merge tables into the stored schema of the dataset: read, merge, write."""
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    os.environ.setdefault("RUNTIME__LOG_LEVEL", "ERROR")
    import dlt
    from dlt.common.schema import Schema
    from dlt.common.schema.utils import new_table
    from dlt.destinations.exceptions import DatabaseUndefinedRelation

    destination = getattr(dlt.destinations, client.destination)(credentials=client.credentials)
    with client.lock(), tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            client.dataset, pipelines_dir=folder, destination=destination, dataset_name=client.dataset
        )
        with (
            pipeline.destination_client() as job_client,
            client.bounded(getattr(job_client.sql_client, "native_connection", None)),
        ):
            job_client.initialize_storage()
            try:
                stored = job_client.get_stored_schema(client.dataset)
            except DatabaseUndefinedRelation:  # the first time there is no version table
                stored = None
            known = Schema.from_stored_schema(json.loads(stored.schema)) if stored else None
            schema = known or Schema(client.dataset)
            for target in targets:
                table = new_table(
                    target.name,
                    write_disposition="merge" if target.key else "append",
                    columns=[_column(column, column.name in target.key) for column in target.columns],
                    resource=target.name,
                )
                table["x-normalizer"] = {"seen-data": True}
                schema.update_table(table)
            schema.update_normalizers()
            schema._bump_version()
            job_client.schema = schema
            tables = [*(target.name for target in targets), *schema.dlt_table_names()]
            job_client.update_stored_schema(only_tables=tables, force=True)


def _column(column: TargetColumn, key: bool) -> Any:
    """Return dlt's description of a column (dlt.common.schema.typing.TColumnSchema)."""
    kind = column.type
    found: dict[str, Any] = {"name": column.name, "nullable": column.nullable}
    if key:
        found["primary_key"] = True
    if column.json:
        return {**found, "data_type": "json"}
    if pa.types.is_decimal(kind):
        return {**found, "data_type": "decimal", "precision": kind.precision, "scale": kind.scale}
    if pa.types.is_integer(kind):
        return {**found, "data_type": "bigint", "precision": kind.bit_width}
    if pa.types.is_timestamp(kind):
        return {**found, "data_type": "timestamp", "timezone": kind.tz is not None}
    names = {
        "bool": "bool",
        "float": "double",
        "double": "double",
        "string": "text",
        "binary": "binary",
        "date32[day]": "date",
        "time64[us]": "time",
    }
    return {**found, "data_type": names[str(kind)]}
