"""The schema that is written without dlt is the one that dlt would write."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from dlt.common.configuration.container import Container
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema
from dlt.common.schema.utils import generate_version_hash, new_table

from runner.load import Target, TargetColumn
from runner.writers.registry import ENGINE, _column, grown

KINDS = [
    pa.int16(), pa.int32(), pa.int64(), pa.bool_(), pa.float32(), pa.float64(), pa.decimal128(10, 2), pa.string(),
    pa.binary(), pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.timestamp("us", "UTC"),
]  # fmt: skip


def target(name: str, *key: str) -> Target:
    columns = [TargetColumn(f"c{index}", f"c{index}", kind, index > 0) for index, kind in enumerate(KINDS)]
    columns.append(TargetColumn("doc", "doc", pa.string(), True, json=True))
    return Target(name, tuple(columns), key)


@pytest.fixture(autouse=True)
def capabilities() -> Iterator[None]:
    """What dlt knows of a destination that merges."""
    with Container().injectable_context(DestinationCapabilitiesContext.generic_capabilities()) as found:
        found.supported_merge_strategies = ["delete-insert"]
        yield


def by_dlt(schema: Schema, *targets: Target) -> dict[str, Any]:
    for one in targets:
        columns: list[TColumnSchema] = [_column(column, column.name in one.key) for column in one.columns]
        table = new_table(
            one.name, write_disposition="merge" if one.key else "append", columns=columns, resource=one.name
        )
        table["x-normalizer"] = {"seen-data": True}
        schema.update_table(table)
    schema.update_normalizers()
    schema._bump_version()
    return dict(schema.to_dict())


TARGETS = (target("orders", "c0"), target("events"), target("pairs", "c1", "c0"))


def test_this_is_the_engine_of_the_dlt_that_we_depend_on() -> None:
    assert Schema.ENGINE_VERSION == ENGINE


def test_a_new_schema_is_the_one_that_dlt_would_write() -> None:
    assert grown("raw", None, list(TARGETS)) == by_dlt(Schema("raw"), *TARGETS)
    assert grown("raw", None, [TARGETS[1]]) == by_dlt(Schema("raw"), TARGETS[1])


def test_a_schema_that_grows_is_the_one_that_dlt_would_write() -> None:
    ours = theirs = None
    for number in range(13):
        added = target(f"t{number}", *(["c0"] * (number % 2)))
        ours = grown("raw", json.dumps(ours) if ours else None, [added])
        assert ours is not None
        theirs = by_dlt(Schema.from_stored_schema(theirs) if theirs else Schema("raw"), added)  # type: ignore[arg-type]
        assert ours == theirs
        assert ours["version_hash"] == generate_version_hash(ours)  # type: ignore[arg-type]
    assert ours is not None
    assert len(ours["previous_hashes"]) == 10


@pytest.mark.parametrize("stored", ["eJyrVkrLz1eyUkpKLFKqBQAdegQ0", '{"engine_version": 10, "tables": {}}'])
def test_what_only_dlt_can_change_is_left_to_it(stored: str) -> None:
    assert grown("raw", stored, [TARGETS[0]]) is None


def test_a_table_that_the_schema_knows_is_left_to_dlt() -> None:
    assert grown("raw", json.dumps(grown("raw", None, [TARGETS[0]])), list(TARGETS)) is None
