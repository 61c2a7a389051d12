"""dlt's record of the dataset: a row of ``_dlt_version`` with the schema, so that an ordinary dlt pipeline goes on.

After a run, tables that the stored schema does not know yet are added to it. The rows are already published by then:
registering again is harmless, and a run that is killed before it registers leaves that to the next one. Importing
dlt takes longer than loading hundreds of small tables, so a schema that is new, or only grows by tables, is written
here; everything else is left to dlt itself, and this file is the only one that calls its lightly documented API
(dlt 1.31).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
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
    credentials: str | dict[str, Any]
    dataset: str
    lock: Callable[[], AbstractContextManager[Any]]
    bounded: Callable[[Any], AbstractContextManager[Any]] = contextlib.nullcontext


# dlt.common.schema.typing.SCHEMA_ENGINE_VERSION
ENGINE = 11
_EMPTY = Path(__file__).with_name("dlt_schema.json")
_HASHES = 10


def grown(dataset: str, stored: str | None, targets: list[Target]) -> dict[str, Any] | None:
    """Return a stored schema with tables added to it, as dlt would write it.

    Args:
        stored: The JSON of the newest schema of the dataset; None starts one.

    Returns:
        The schema (dlt.common.schema.typing.TStoredSchema), or None where dlt itself has to change it: it is of another
        engine, or knows one of the tables already.
    """
    try:
        schema = json.loads(stored if stored is not None else _EMPTY.read_text())
    except ValueError:  # dlt compresses what is long
        return None
    if schema.get("engine_version") != ENGINE or any(target.name in schema["tables"] for target in targets):
        return None
    for target in targets:
        schema["tables"][target.name] = {
            "name": target.name,
            "columns": {column.name: _column(column, column.name in target.key) for column in target.columns},
            "write_disposition": "merge" if target.key else "append",
            "resource": target.name,
            "x-normalizer": {"seen-data": True},
        }
        if target.key:
            # dlt.common.normalizers.json.relational: rows of child tables find their root by this.
            config = schema["normalizers"]["json"].setdefault("config", {})
            propagated = config.setdefault("propagation", {}).setdefault("tables", {})
            propagated[target.name] = {"_dlt_id": "_dlt_root_id"}
    before = schema.get("version_hash")
    schema |= {
        "name": dataset,
        "version": schema["version"] + (stored is not None),
        "version_hash": _hash(schema, dataset),
    }
    if before:
        earlier = [before, *(one for one in schema["previous_hashes"] if one != before)]
        schema["previous_hashes"] = earlier[:_HASHES]
    return dict(schema)


def _hash(schema: dict[str, Any], dataset: str) -> str:
    """Return a schema's version hash (dlt.common.schema.utils.generate_version_hash)."""
    own = ("version", "version_hash", "imported_version_hash", "previous_hashes")
    hashed = {key: value for key, value in schema.items() if key not in own} | {"name": dataset}
    digest = hashlib.sha3_256(json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    for name in sorted(schema["tables"]):
        digest.update(name.encode())
        for column in schema["tables"][name].get("columns") or {}:
            digest.update(column.encode())
    return base64.b64encode(digest.digest()).decode()


def register(client: RegistryClient, targets: list[Target]) -> None:
    """Let dlt merge tables into the stored schema of the dataset: read, merge, write."""
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    os.environ.setdefault("RUNTIME__LOG_LEVEL", "ERROR")
    # Ours by that name was read long ago; dlt would take it for its own, and make a dataset of another name.
    os.environ.pop("FULL_REFRESH", None)
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


def options_of_variables(environ: Mapping[str, str], prefix: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that dlt's own variables hold, each in one of its own; keys: our names by dlt's."""
    return {name: environ[f"{prefix}__{key}"] for key, name in keys.items() if environ.get(f"{prefix}__{key}")}
