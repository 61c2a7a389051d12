"""An organisation of Salesforce as a source, and what `doctor` asks of it.

Facts: developer.salesforce.com, REST API Developer Guide, "Limits" (what is left of the day's calls and jobs).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from connectors.api import ApiSession, ApiSource
from connectors.http import Http
from connectors.http.config import HttpConfig
from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.describe import SCHEMA
from connectors.salesforce.faults import judge, usage
from connectors.salesforce.login import make_login
from connectors.salesforce.permissions import missing_fields
from connectors.salesforce.session import SalesforceSession
from runner.errors import RunnerError
from runner.source import Table


class SalesforceSource(ApiSource):
    """An organisation of Salesforce."""

    kind: ClassVar[str] = SCHEMA
    config_model: ClassVar[type[HttpConfig]] = SalesforceConfig
    config: SalesforceConfig

    def make_http(self) -> Http:
        def move(base: str) -> None:
            http.move(base)

        auth = make_login(self.config, self.requests.clock, move)
        http = Http(self.config, base=self.config.url, auth=auth, requests=self.requests, judge=judge, usage=usage)
        return http

    @contextlib.asynccontextmanager
    async def session(self, epoch: int) -> AsyncIterator[ApiSession]:
        async with super().session(epoch) as session:
            assert isinstance(session, SalesforceSession)
            try:
                yield session
            finally:
                await session.jobs.clear()

    def make_session(self, http: Http, epoch: int) -> SalesforceSession:
        return SalesforceSession(http, self.config)

    async def examine(self, session: ApiSession, tables: Sequence[Table]) -> list[tuple[str, str, str]]:
        assert isinstance(session, SalesforceSession)
        found = [_look(table) for table in tables]
        try:
            limits = await session.limits()
        except RunnerError as error:
            limits = {}
            found.append([("warn", error.message, error.advice)])
        for name, what in (("DailyApiRequests", "calls"), ("DailyBulkV2QueryJobs", "jobs of the Bulk API")):
            most, left = (int(limits.get(name, {}).get(key, 0)) for key in ("Max", "Remaining"))
            if most:
                level, advice = ("warn", "Run it later, or set limits.quota.") if left < most // 20 else ("ok", "")
                found.append([(level, f"{left:,} of {most:,} {what} of the day are left", advice)])
        return [one for some in found for one in some]


def _look(table: Table) -> list[tuple[str, str, str]]:
    found = []
    names = {column.name for column in table.columns}
    if not table.readable:
        found.append(("fail", f"{table.qualified} cannot be queried", "Exclude it, or grant Read on it."))
    missing = missing_fields(table.detail["object"], names)
    if missing:
        advice = "Grant Read on them (field-level security) by a permission set of the source's user."
        found.append(("warn", f"{table.qualified}: {', '.join(missing)} cannot be seen", advice))
    left = table.detail.get("left_out") or []
    if left:
        found.append(("ok", f"{table.qualified}: not read: {', '.join(left)}", ""))
    return found
