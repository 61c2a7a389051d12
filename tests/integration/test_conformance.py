"""Every connector keeps the rules of the port, each against its real server or its double."""

from __future__ import annotations

from datetime import datetime

import pytest

from connectors.dltsource import DltSource
from connectors.postgres.source import PostgresSource
from connectors.rest import RestSource
from connectors.testing.rest import RestDouble
from runner.source import Source
from runner.testing.conformance import Broken, conformance
from tests.conftest import Database
from tests.integration import shop_dlt


@pytest.mark.parametrize("table", ["shop.customers", "shop.orders"])
async def test_postgres(shop_database: Database, table: str) -> None:
    found = await conformance(lambda: PostgresSource({"dsn": shop_database.dsn}), table, cursor="updated_at", small=50)
    assert found.chunks > 1
    assert found.mark is not None


async def test_dlt() -> None:
    start = datetime(2024, 1, 1)
    shop_dlt.ORDERS[:] = [{"id": number, "updatedAt": start, "tags": []} for number in range(2500)]

    def make() -> Source:
        return DltSource({"source": "tests.integration.shop_dlt:shop"})

    assert (await conformance(make, "dlt.lines")).rows == 2500


async def test_rest() -> None:
    with RestDouble() as api:
        api.tables = {
            "things": [{"id": i, "at": f"2024-01-{1 + i % 28:02}T00:00:{i % 60:02}Z"} for i in range(1, 6000)]
        }
        options = {
            "client": {"base_url": api.url, "paginator": {"type": "offset", "limit": 100}},
            "resources": [
                {"name": "things", "primary_key": "id", "endpoint": {"path": "offset/things",
                 "incremental": {"cursor_path": "at"}}},
            ],
        }  # fmt: skip
        found = await conformance(lambda: RestSource(options), "rest.things")
        api.tables |= {
            "few": [{"id": i} for i in range(1, 300)],
            "few.parts": [{"id": i, "parent_id": i % 300} for i in range(1500)],
        }
        children = {
            "client": {"base_url": api.url, "paginator": {"type": "offset", "limit": 30}},
            "resources": [
                {"name": "few", "endpoint": "offset/few"},
                {"name": "parts", "primary_key": "id", "endpoint": "offset/few/{resources.few.id}/parts"},
            ],
        }
        parts = await conformance(lambda: RestSource(children), "rest.parts")
    assert (found.rows, parts.rows) == (5999, 1495)
    assert found.chunks > 1
    assert parts.chunks > 1


class Overlapping(PostgresSource):
    """A source whose chunks overlap: the kit is shown to notice."""

    def session(self, epoch):  # type: ignore[no-untyped-def]
        session = super().session(epoch)

        class Wrong:
            async def __aenter__(self):  # type: ignore[no-untyped-def]
                made = await session.__aenter__()
                chunks = made.chunks

                async def twice(scan, rows, size):  # type: ignore[no-untyped-def]
                    found = await chunks(scan, rows, size)
                    return [*found, type(found[0])("other", len(found), found[-1].bounds, found[0].storage)]

                made.chunks = twice  # type: ignore[method-assign]
                return made

            async def __aexit__(self, *error):  # type: ignore[no-untyped-def]
                return await session.__aexit__(*error)

        return Wrong()


async def test_the_kit_notices_overlapping_chunks(shop_database: Database) -> None:
    with pytest.raises(Broken, match="not unique"):
        await conformance(lambda: Overlapping({"dsn": shop_database.dsn}), "shop.customers", small=50)
