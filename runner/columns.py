"""Column rules: drop, hash, mask, text. They apply before anything is spooled (L11)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

import pyarrow as pa

from runner.document import nearest
from runner.errors import JobFileError, SecretMissing
from runner.job import ColumnRule, is_exact
from runner.source import Column, Table

HASH_KEY = "RUNNER_HASH_KEY"
_MASK = "***"


def apply_to_schema(table: Table, rules: Mapping[str, ColumnRule]) -> tuple[Column, ...]:
    """Return the columns that are read, each with its rule.

    Args:
        rules: Column name or pattern to rule; of several that match, the last wins.

    Raises:
        JobFileError: A rule names a column that the table does not have.
    """
    for pattern in rules:
        if is_exact(pattern) and table.column(pattern) is None:
            near = nearest(pattern, (column.name for column in table.columns))
            hint = f" Did you mean {near!r}?" if near else ""
            raise JobFileError(f"{table.qualified}: columns: there is no column {pattern!r}.{hint}")
    kept = []
    for column in table.columns:
        hits = [rule for pattern, rule in rules.items() if fnmatchcase(column.name, pattern) or pattern == column.name]
        rule = hits[-1] if hits else None
        if rule == "drop":
            continue
        if rule is not None:
            column = replace(column, type=pa.string(), json=False, note=rule, rule=rule)
        kept.append(column)
    return tuple(kept)


class Protector:
    """Replaces the values of protected columns in record batches.

    Args:
        columns: The columns of the batches.
        key: The key of the HMAC; needed where a column is hashed.
    """

    def __init__(self, columns: tuple[Column, ...], key: str | None) -> None:
        self._rules = [(index, column.rule) for index, column in enumerate(columns) if column.rule]
        if any(rule == "hash" for _, rule in self._rules) and not key:
            raise SecretMissing(
                "Hashed columns need a key.", guidance=f"Set {HASH_KEY} in the environment, and keep it the same."
            )
        self._key = (key or "").encode()

    @property
    def idle(self) -> bool:
        """Whether no value is changed."""
        return all(rule == "text" for _, rule in self._rules)

    def protect(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch as it may leave memory; NULL stays NULL."""
        arrays = list(batch.columns)
        for index, rule in self._rules:
            if rule == "hash":
                digests = [None if value is None else self._digest(value) for value in arrays[index].to_pylist()]
                arrays[index] = pa.array(digests, type=pa.string())
            elif rule == "mask":
                import pyarrow.compute as pc  # it takes as long to import as pyarrow itself

                mask = pa.scalar(_MASK, pa.string())
                arrays[index] = pc.if_else(pc.is_valid(arrays[index]), mask, pa.scalar(None, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)

    def _digest(self, value: str) -> str:
        return hmac.new(self._key, value.encode(), hashlib.sha256).hexdigest()
