"""Sessions of Salesforce: discovery, high-water marks, chunks and pages.

Facts: developer.salesforce.com, REST API Developer Guide: "Describe Global", "sObject Describe", "Query" and "QueryAll"
(with the recycle bin), "Query Options Header", "Record Count"; SOAP API Developer Guide, "QueryLocator" (a cursor that
is not used for fifteen minutes is closed, and so is the oldest of ten when one more is opened).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import anyio
import pyarrow as pa

from connectors.api import ApiSession, Page
from connectors.http import Http, Reply
from connectors.patterns import own_names, pattern
from connectors.salesforce.bulk import Jobs
from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.describe import SCHEMA, is_wanted_by_pattern, make_table
from connectors.salesforce.faults import BulkUnsupported, CursorGone, FieldMissing
from connectors.salesforce.ranges import split
from connectors.salesforce.soql import as_mark, is_long, make_conditions, make_query
from runner.errors import (
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
    StatementTooLong,
    TableChanged,
    TableMissing,
)
from runner.job import is_exact, matches
from runner.source import Chunk, Mark, Scan, Table, make_chunk
from runner.tasks import task_group

_DESCRIBES = 8
_DOWNLOADS = 4
_BODIES = 8
# What one query should read: more is split by ids where the object is large enough to ask where it begins and ends.
_QUERY_ROWS = 50_000
_JOB_ROWS = 100_000
_MOST_PARTS = 64


class SalesforceSession(ApiSession):
    """One opened organisation."""

    def __init__(self, http: Http, config: SalesforceConfig) -> None:
        super().__init__(http)
        self._config = config
        self._path = f"/services/data/v{config.api_version}"
        self.jobs = Jobs(http, f"{self._path}/jobs/query", config.bulk_rows)

    # Discovery.

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        reply = await self.http.get(f"{self._path}/sobjects")
        words = own_names(SCHEMA, patterns)
        shown = {str(one["name"]): one for one in _mapping(reply).get("sobjects", ())}
        named = {name: name for name, one in shown.items() if _wanted(one, patterns)}
        named |= {word: name for word, name in words.items() if name in shown and word not in shown}
        names = sorted(set(named.values()))
        counts = await self._counts(names)
        described: dict[str, Mapping[str, Any]] = {}
        turn = anyio.CapacityLimiter(_DESCRIBES)

        async def describe(name: str) -> None:
            async with turn:
                try:
                    described[name] = _mapping(await self.http.get(f"{self._path}/sobjects/{name}/describe"))
                except (TableMissing, PermissionMissing):
                    described[name] = {"name": name, "queryable": False, "fields": ()}

        async with task_group() as group:
            for name in names:
                group.start_soon(describe, name)
        return [
            make_table(self._config, described[name], counts.get(name, 0), word=word)
            for word, name in sorted(named.items())
        ]

    async def _counts(self, names: Sequence[str]) -> dict[str, int]:
        """Return about how many records objects have; where it cannot be asked, nothing is known."""
        found: dict[str, int] = {}
        for start in range(0, len(names), 200):
            params = {"sObjects": ",".join(names[start : start + 200])}
            try:
                reply = await self.http.get(f"{self._path}/limits/recordCount", params=params)
            except RequestRefused:
                return found
            found |= {str(one["name"]): int(one["count"]) for one in _mapping(reply).get("sObjects", ())}
        return found

    async def limits(self) -> Mapping[str, Any]:
        """Return what the organisation may still ask for today."""
        return _mapping(await self.http.get(f"{self._path}/limits"))

    # Before rows are read.

    async def high_water(self, scan: Scan) -> Mark | None:
        column = scan.table.column(scan.window.cursor) if scan.window else None
        if column is None:
            return None
        # Of the whole object, whatever its conditions: it bounds what was there when it was asked. The first of the
        # sorted ones and not MAX(): that one reads them all, and runs out of time on large objects.
        order = f"ORDER BY {column.name} DESC NULLS LAST LIMIT 1"
        found = await self._ask(scan, f"SELECT {column.name} FROM {_object(scan)} {order}")
        records = _records(found)
        if not records or records[0].get(column.name) is None:
            return None
        value = str(records[0][column.name])
        if pa.types.is_timestamp(column.type):
            value = as_mark(value)
        return Mark(value, exact=False)

    async def newest(self, scan: Scan) -> str | None:
        assert scan.window is not None
        column = scan.table.column(scan.window.cursor)
        if column is None:
            return None
        conditions = make_conditions(scan)
        said = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        order = f"ORDER BY {column.name} DESC NULLS LAST LIMIT 1"
        records = _records(await self._ask(scan, f"SELECT {column.name} FROM {_object(scan)}{said} {order}"))
        value = records[0].get(column.name) if records else None
        if value is None:
            return None
        return as_mark(str(value)) if pa.types.is_timestamp(column.type) else str(value)

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        bulk, count = await self._plan(scan)
        per_part = min(rows, _JOB_ROWS) if bulk else min(rows, _QUERY_ROWS)
        parts = min(_MOST_PARTS, math.ceil(count / per_part)) if count else 1
        cuts = await self._cuts(scan, parts) if parts > 1 else []
        common: dict[str, Any] = {"bulk": True} if bulk else {}
        edges = [None, *cuts, None]
        bounds = [
            {**common, **({"after": after} if after else {}), **({"until": until} if until else {})}
            for after, until in itertools.pairwise(edges)
        ]
        if _is_merged(scan):
            children = pattern(SCHEMA, _object(scan)).children
            bounds += [{"child": [child, field]} for child, field in children.items()]
        share = max(1, count // max(1, len(bounds)))
        width = max(1, scan.table.bytes // max(1, scan.table.rows))
        return [
            make_chunk(scan, number, one, storage=None, rows=share, size=share * width)
            for number, one in enumerate(bounds)
        ]

    async def _plan(self, scan: Scan) -> tuple[bool, int]:
        """Return whether jobs read a scan, and about how many records it has."""
        config, count = self._config, scan.table.rows
        large = count >= min(config.bulk_from, _QUERY_ROWS)
        narrow = scan.where or (scan.window and (scan.window.start or scan.window.end))
        if large and narrow:
            count = await self._count(scan)
        if _binary(scan) or config.bulk == "never":
            return False, count
        long = is_long(make_query(scan, {}, ordered=True))
        return config.bulk == "always" or long or count >= config.bulk_from, count

    async def _count(self, scan: Scan) -> int:
        conditions = make_conditions(scan)
        said = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        statement = f"SELECT COUNT() FROM {_object(scan)}{said}"
        if is_long(statement):
            return scan.table.rows
        try:
            found = await self._ask(scan, statement)
        except StatementTooLong:
            return scan.table.rows
        return int(found.get("totalSize", 0))

    async def _cuts(self, scan: Scan, parts: int) -> list[str]:
        ends = []
        for order in ("ASC", "DESC"):
            found = await self._ask(scan, f"SELECT Id FROM {_object(scan)} ORDER BY Id {order} LIMIT 1")
            ends += [str(one["Id"]) for one in _records(found)]
        return split(ends[0], ends[1], parts) if len(ends) == 2 else []

    # Rows.

    async def pages(self, scan: Scan, chunk: Chunk) -> AsyncGenerator[Page, None]:
        bounds = chunk.bounds
        if bounds.get("bulk"):
            try:
                job = bounds.get("job") or await self._start(scan, bounds)
            except BulkUnsupported:
                if self._config.bulk == "always":
                    raise
                bounds = {key: value for key, value in bounds.items() if key != "bulk"}
            else:
                names = {column.name for column in scan.columns}
                async with aclosing(self.jobs.pages(str(job), bounds, names)) as pages:
                    async for page in pages:
                        yield page
                return
        async with aclosing(self._query(scan, bounds)) as pages:
            async for page in pages:
                yield page

    async def _start(self, scan: Scan, bounds: Mapping[str, Any]) -> str:
        statement = make_query(scan, bounds, ordered=False)
        try:
            job = await self.jobs.create(statement, self._call(scan))
        except FieldMissing as error:
            raise _changed(scan, error) from error
        async with self.jobs.care(job):
            await self.jobs.finish(job)
        return job

    async def _query(self, scan: Scan, bounds: Mapping[str, Any]) -> AsyncGenerator[Page, None]:
        """Read by id: a cursor that is gone costs nothing, for the next query goes on behind the last id."""
        rest = dict(bounds)
        url: str | None = None
        while True:
            try:
                if url is None:
                    found = await self._ask(scan, make_query(scan, rest, ordered=True), batch=True)
                else:
                    found = _mapping(await self.http.get(url, headers=self._options))
            except CursorGone:
                if url is None:
                    raise
                url = None
                continue
            records = _records(found)
            url = None if found["done"] else str(found["nextRecordsUrl"])
            # What base64 fields lead to may be large: a few records are a page then.
            size = _BODIES if _binary(scan) else max(1, len(records))
            for start in range(0, max(1, len(records)), size):
                part = records[start : start + size]
                if part:
                    rest = {**rest, "after": str(part[-1]["Id"])}
                last = url is None and start + size >= len(records)
                yield Page(await self._with_bodies(scan, part), None if last else rest)
            if url is None:
                return

    async def _with_bodies(self, scan: Scan, records: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return records with what their base64 fields lead to."""
        names = _binary(scan)
        if not names:
            return records
        filled = [dict(one) for one in records]
        turn = anyio.CapacityLimiter(_DOWNLOADS)

        async def download(row: dict[str, Any], name: str) -> None:
            async with turn:
                row[name] = (await self.http.get(str(row[name]))).body

        async with task_group() as group:
            for row in filled:
                for name in names:
                    if row.get(name) is not None:
                        group.start_soon(download, row, name)
        return list(filled)

    @property
    def _options(self) -> dict[str, str]:
        return {"Sforce-Query-Options": f"batchSize={self._config.batch_size}"}

    async def _ask(self, scan: Scan, statement: str, *, batch: bool = False) -> Mapping[str, Any]:
        if is_long(statement):
            raise RequestRefused(
                f"The query of {scan.table.name} is too long for an address.",
                guidance="Drop columns (columns: {name: drop}), or let jobs read it (bulk: auto).",
            )
        headers = self._options if batch else None
        try:
            reply = await self.http.get(f"{self._path}/{self._call(scan)}", params={"q": statement}, headers=headers)
        except FieldMissing as error:
            raise _changed(scan, error) from error
        return _mapping(reply)

    @staticmethod
    def _call(scan: Scan) -> str:
        """Return query, or queryAll where records of the recycle bin are wanted: with the field that marks them."""
        return "queryAll" if any(column.name == "IsDeleted" for column in scan.columns) else "query"


def _wanted(summary: Mapping[str, Any], patterns: Sequence[str]) -> bool:
    qualified = f"{SCHEMA}.{summary.get('name')}"
    hits = [one for one in patterns if matches(one, qualified)]
    return any(is_exact(one) for one in hits) or (bool(hits) and is_wanted_by_pattern(summary))


def _is_merged(scan: Scan) -> bool:
    """Tell whether rows that are outside the window would do no harm: a merge by key takes them, a range does not."""
    window = scan.window
    if window is None or window.start is None or window.cursor != "SystemModstamp":
        return False
    return window.nulls and window.from_start and not window.before_end


def _binary(scan: Scan) -> list[str]:
    return [column.name for column in scan.columns if pa.types.is_binary(column.type)]


def _object(scan: Scan) -> str:
    return str(scan.table.detail["object"])


def _mapping(reply: Reply) -> Mapping[str, Any]:
    if not isinstance(reply.data, Mapping):
        raise SourceDown(f"{reply.where} answered with something else than an object.")
    return reply.data


def _records(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(found.get("records") or ())


def _changed(scan: Scan, error: RunnerError) -> RunnerError:
    """Return the error that a missing field is: of a column it means that the object changed."""
    if any(f"'{column.name}'" in error.message for column in scan.columns):
        return TableChanged(error.message, guidance=error.advice, table=scan.table.qualified)
    return error
