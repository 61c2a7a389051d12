"""Fills a database with the sample shop."""

from __future__ import annotations

from importlib.resources import files

import asyncpg


async def fill(dsn: str, *, scale: float = 1.0) -> None:
    """Make the shop in an empty database.

    Args:
        scale: 1 is the whole shop of about two million rows; the number of tables stays the same.
    """
    script = files("connectors.testing").joinpath("shop.sql").read_text("utf-8").replace(":scale", str(scale))
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        async with connection.transaction():
            await connection.execute(script)
    finally:
        await connection.close()


async def is_filled(dsn: str) -> bool:
    """Tell whether the shop is there, whole: it is made in one transaction."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return bool(await connection.fetchval("select to_regclass('ops.store_200') is not null"))
    finally:
        await connection.close()
