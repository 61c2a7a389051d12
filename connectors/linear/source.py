"""Linear as a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from connectors.api import ApiSession, ApiSource
from connectors.http import Http
from connectors.linear.config import MOST_ROWS, LinearConfig
from connectors.linear.faults import Faults
from connectors.linear.queries import Budget
from connectors.linear.session import LinearSession
from runner.errors import PermissionMissing, RequestRefused
from runner.source import Table


class LinearSource(ApiSource):
    """The source of type linear."""

    kind = "linear"
    config_model = LinearConfig

    @property
    def _own(self) -> LinearConfig:
        return cast("LinearConfig", self.config)

    def make_http(self) -> Http:
        faults = Faults(self.requests.clock)
        return Http(
            self.config,
            base=self._own.base_url,
            auth=self._own.auth(),
            requests=self.requests,
            judge=faults.judge,
            usage=faults.usage,
        )

    def make_session(self, http: Http, epoch: int) -> LinearSession:
        size = self._own.page_size
        return LinearSession(http, Budget(MOST_ROWS if size == "auto" else size))

    async def examine(self, session: ApiSession, tables: Sequence[Table]) -> list[tuple[str, str, str]]:
        """Return which tables have something that the key may not read."""
        assert isinstance(session, LinearSession)
        found = [("ok", f"{len(tables)} tables are there", "")]
        for table in tables:
            try:
                await session.first(table)
            except (PermissionMissing, RequestRefused) as error:
                found.append(("warn", f"{table.qualified}: {error.message}", error.advice))
        return found
