"""What a dlt resource yields, in a thread of its own; its state goes in and comes out as the mark.

dlt keeps how far a resource came in the pipeline's state; sources read and write it through the injected context
(https://dlthub.com/docs/general-usage/state). Here that state is the table's high-water mark.
"""

from __future__ import annotations

import base64
import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import anyio
import pyarrow as pa

from runner.errors import RunnerError, SourceDown, SourceError, UsageError
from runner.secrets import redact

_ROWS = 1000
# What dlt calls a type, as Shape calls it.
KINDS = {
    "text": "text",
    "double": "number",
    "bool": "boolean",
    "timestamp": "timestamp",
    "date": "date",
    "time": "time",
    "bigint": "integer",
    "binary": "binary",
    "json": "json",
}


def make_source(name: str, args: Mapping[str, Any]) -> Any:
    """Import a source and call it.

    Args:
        name: ``package.module:function``.

    Raises:
        UsageError: There is no such function, it does not take these arguments, or it makes no source.
    """
    # Its telemetry would answer to nobody here.
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    module, _, function = name.partition(":")
    if not function:
        raise UsageError(f"source: {name!r} names no function.", guidance="Write it as package.module:function.")
    try:
        made = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise UsageError(
            f"source: {module} cannot be imported: {error}.", guidance="Install its package beside this one."
        ) from error
    except AttributeError as error:
        raise UsageError(f"source: {module} has no {function!r}.") from error
    from dlt.common.configuration.exceptions import ConfigurationException
    from dlt.extract.resource import DltResource
    from dlt.extract.source import DltSource

    try:
        found = made(**args)
    except (TypeError, ConfigurationException) as error:
        raise UsageError(f"args: {name} does not take them: {redact(str(error))}") from error
    if isinstance(found, DltResource):
        return {found.name: found}
    if isinstance(found, DltSource):
        return found.resources
    raise UsageError(f"source: {name} returns neither a dlt source nor a dlt resource.")


def hints(resource: Any) -> dict[str, Any]:
    """Return what a resource declares: name, key, columns and write disposition.

    Raises:
        SourceError: Its name depends on the rows.
    """
    if callable(resource.table_name) or callable(resource.write_disposition):
        raise SourceError(
            f"The resource {resource.name} names its table row by row.",
            guidance="Such a resource cannot be one table; exclude it.",
        )
    schema = resource.compute_table_schema()
    columns = schema.get("columns", {})
    wanted = schema.get("write_disposition") or "append"
    return {
        "name": str(resource.table_name),
        "key": [name for name, column in columns.items() if column.get("primary_key")]
        or [name for name, column in columns.items() if column.get("merge_key")],
        "kinds": {name: kind for name, column in columns.items() if (kind := _kind(column))},
        "disposition": wanted["disposition"] if isinstance(wanted, dict) else wanted,
    }


def _kind(column: Mapping[str, Any]) -> str | None:
    kind = column.get("data_type")
    if kind == "decimal":
        return f"decimal({column.get('precision') or 38},{column.get('scale') if column.get('precision') else 9})"
    return KINDS.get(str(kind))


class Extraction:
    """One reading of a resource, from a state on.

    Args:
        state: As ``mark`` returned it; None reads the whole resource.
    """

    def __init__(self, resource: Any, state: str | None) -> None:
        from dlt.common.json import json as dlt_json

        self._json = dlt_json
        self._resource = resource
        self._state: dict[str, Any] = dlt_json.typed_loads(base64.b64decode(state).decode()) if state else {}

    def mark(self) -> str:
        """Return the state after what was read."""
        return base64.b64encode(self._json.typed_dumps(self._state).encode()).decode()

    def items(self, rows_at_once: int = _ROWS) -> Iterator[list[dict[str, Any]] | pa.RecordBatch]:
        """Return what the resource yields; all in one thread, for dlt's contexts belong to one.

        Raises:
            SourceError: It failed.
        """
        from dlt.common.configuration.container import Container
        from dlt.common.pipeline import StateInjectableContext

        try:
            with Container().injectable_context(StateInjectableContext(state=self._state)):  # type: ignore[arg-type, unused-ignore]
                iterator = iter(self._resource)
            rows: list[dict[str, Any]] = []
            try:
                for item in iterator:
                    if isinstance(item, Mapping):
                        rows.append(dict(item))
                        if len(rows) >= rows_at_once:
                            yield rows
                            rows = []
                    else:
                        yield from _converted(item)
                if rows:
                    yield rows
            finally:
                iterator.close()
        except (RunnerError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise
        except Exception as error:  # whatever a source written by somebody else raises
            raise _translated(error, self._resource.name) from error


def _converted(item: Any) -> Iterator[list[dict[str, Any]] | pa.RecordBatch]:
    if isinstance(item, pa.RecordBatch):
        yield item
    elif isinstance(item, pa.Table):
        yield from item.combine_chunks().to_batches()
    elif hasattr(item, "model_dump"):
        yield [item.model_dump()]
    elif type(item).__module__.startswith("pandas"):
        yield from pa.Table.from_pandas(item, preserve_index=False).to_batches()
    else:
        raise SourceError(f"A resource yields {type(item).__name__}, which is no row.")


def _translated(error: Exception, name: str) -> RunnerError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RunnerError):
            return cause
        if isinstance(cause, ConnectionError | TimeoutError) or type(cause).__name__ in _LOST:
            return SourceDown(f"{name}: {redact(str(cause))[:300]}")
        cause = cause.__cause__
    return SourceError(f"{name}: {type(error).__name__}: {redact(str(error))[:300]}")


# The names of what clients that others use raise when a connection is lost.
_LOST = {"ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "ChunkedEncodingError", "OperationalError"}
