"""dlt sources as a team may have them; the tests run them through the runner."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import dlt
import pyarrow as pa

# What the API behind the sources has; a test changes it.
ORDERS: list[dict[str, Any]] = []
ASKED: list[str] = []


@dlt.source
def shop(fail: bool = False) -> Any:
    @dlt.resource(primary_key="id", write_disposition="merge")
    def orders(
        updated_at: Any = dlt.sources.incremental("updatedAt", initial_value=datetime(2020, 1, 1)),  # noqa: B008
    ) -> Iterator[list[dict[str, Any]]]:
        ASKED.append(f"orders from {updated_at.last_value}")
        for start in range(0, len(ORDERS), 100):
            yield ORDERS[start : start + 100]
        if fail:
            raise ConnectionError("the API is down")

    @dlt.transformer(data_from=orders, write_disposition="append")
    def lines(page: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for order in page:
            yield {"order": order["id"], "tags": order.get("tags")}

    @dlt.resource(write_disposition="replace", columns={"price": {"data_type": "decimal", "precision": 12, "scale": 2}})
    def prices() -> Iterator[dict[str, Any]]:
        yield {"sku": "a", "price": Decimal("12.30"), "late": None}
        for number in range(3000):
            yield {"sku": f"s{number}", "price": Decimal(number) / 4, "late": number if number > 2500 else None}
        yield {"sku": "z", "price": None, "late": "not a number"}

    @dlt.resource
    def tables() -> Iterator[Any]:
        yield pa.table({"n": [1, 2], "nested": [{"a": 1}, None]})
        yield pa.table({"n": [3], "more": ["x"]})

    return orders, lines, prices, tables


@dlt.source
def by_row() -> Any:
    @dlt.resource(table_name=lambda row: row["kind"])
    def events() -> Iterator[dict[str, Any]]:
        yield {"kind": "a"}

    return events


# How often the next readings are cut off, and what of the API is there.
CUTS = [0]
LATER = [False]


def _cut() -> None:
    if CUTS[0] > 0:
        CUTS[0] -= 1
        raise ConnectionError("cut off")


@dlt.source
def odd() -> Any:
    @dlt.resource(write_disposition="replace")
    def widening() -> Iterator[dict[str, Any]]:
        for number in range(3000):
            yield {"id": number, "late": "x"} if number == 1500 else {"id": number}
        _cut()

    @dlt.resource(write_disposition="replace")
    def changing() -> Iterator[dict[str, Any]]:
        for number in range(3000):
            yield {"id": number if number < 1500 else "x"}
        _cut()

    @dlt.resource(write_disposition="merge", primary_key="id")
    def nulls() -> Iterator[dict[str, Any]]:
        yield from ({"id": 1, "v": "a"}, {"id": None, "v": "b"})

    @dlt.resource(write_disposition="replace", primary_key="id")
    def holes() -> Iterator[dict[str, Any]]:
        yield from ({"id": 1, "v": "a"}, {"id": 1, "v": "a"}, {"id": None, "v": "b"}, {"id": None, "v": "c"})

    @dlt.resource(write_disposition="merge", primary_key="id")
    def versions() -> Iterator[Any]:
        for part in range(8):
            # Two passes over the same keys: the second one is newer.
            begin = part % 4 * 400_000
            ids = pa.array(range(begin, begin + 400_000), pa.int64())
            yield pa.table({"id": ids, "v": pa.repeat(part // 4, 400_000)})

    @dlt.resource(write_disposition="merge", primary_key="id")
    def prices(at: Any = dlt.sources.incremental("at", initial_value=0)) -> Iterator[list[dict[str, Any]]]:  # noqa: B008
        first = [{"id": n, "at": n, "price": n / 4 if n != 150 else "dear", "note": "x" if n == 150 else None}
                 for n in range(200)]  # fmt: skip
        yield [*first, *({"id": n, "at": n, "price": n / 4} for n in range(1000, 1005) if LATER[0])]

    @dlt.resource(write_disposition="replace", primary_key="id")
    def plain() -> Iterator[Any]:
        yield pa.table({"id": pa.array(range(20_000), pa.int64()), "n": pa.array(range(20_000), pa.int64())})

    return widening, changing, nulls, holes, versions, prices, plain
