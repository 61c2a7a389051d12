"""The sources odata and sap: how they are reached, how their errors are read, what ``doctor`` asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from connectors.api import ApiSession, ApiSource
from connectors.http import Http, HttpConfig, Reply
from connectors.odata.config import ODataConfig, SapConfig
from connectors.odata.service import Service
from connectors.odata.session import ODataSession, first_row
from runner.errors import PermissionMissing, RequestRefused, RunnerError, SourceDown, TableMissing
from runner.source import Table


class ODataSource(ApiSource):
    """One OData service; its entity sets are the tables."""

    kind = "odata"
    config_model: ClassVar[type[HttpConfig]] = ODataConfig

    def make_http(self) -> Http:
        config = self._keys
        return Http(
            config,
            base=f"{config.url}/",
            auth=config.auth(),
            requests=self.requests,
            headers=config.sent(),
            judge=self.judge,
        )

    def make_session(self, http: Http, epoch: int) -> ApiSession:
        return ODataSession(http, Service(http, self._keys), self.kind)

    @property
    def _keys(self) -> ODataConfig:
        assert isinstance(self.config, ODataConfig)
        return self.config

    @staticmethod
    def judge(reply: Reply) -> RunnerError | None:
        """Return the error that an answer means, where its status alone does not say it."""
        if reply.status == 501:
            return RequestRefused(f"{reply.where} is not implemented by the service (501): {reply.message}")
        if not 200 <= reply.status < 300:
            return None
        kind = reply.header("Content-Type") or ""
        if "html" in kind:
            return RequestRefused(
                f"{reply.where} answered with a page for people, not with data: most likely a log-on page.",
                guidance="Use a technical user that signs in with a password or a token, not by single sign-on.",
            )
        data = reply.data if "json" in kind else None
        if isinstance(data, Mapping) and "error" in data and not {"d", "value"} & set(data):
            return SourceDown(f"{reply.where} answered {reply.status} and yet with an error: {reply.message}")
        return None

    async def examine(self, session: ApiSession, tables: Sequence[Table]) -> list[tuple[str, str, str]]:
        assert isinstance(session, ODataSession)
        checks: list[tuple[str, str, str]] = []
        for table in tables:
            try:
                await first_row(session.service, table.detail["set"])
            except RunnerError as error:
                checks.append(("fail", f"{table.qualified}: {error.message}", error.advice))
        if len(checks) < len(tables):
            checks.insert(0, ("ok", f"{len(tables) - len(checks)} of {len(tables)} entity sets can be read", ""))
        return checks


class SapSource(ODataSource):
    """One service of SAP Gateway: with SAP's query options, error codes and authorisations."""

    kind = "sap"
    config_model: ClassVar[type[HttpConfig]] = SapConfig

    @staticmethod
    def judge(reply: Reply) -> RunnerError | None:
        """Read SAP Gateway's codes: it answers 403 both to who may not and for what is not there."""
        code = _code(reply)
        if code == "/IWFND/CM_CONSUMER/101":
            return PermissionMissing(
                f"{reply.where}: {reply.message}",
                guidance="Add authorisation object S_SERVICE for the service (object type IWSG, and IWSV at the "
                "backend) to a role of the user: transaction PFCG; SU53 shows what was missing.",
            )
        if code in ("/IWFND/MED/170", "/IWBEP/CM_MGW_RT/026"):
            return TableMissing(
                f"{reply.where}: {reply.message}",
                guidance="Activate the service: transaction /IWFND/MAINT_SERVICE, with a system alias; check the url.",
            )
        return ODataSource.judge(reply)


def _code(reply: Reply) -> str | None:
    if reply.status < 400:
        return None
    error = reply.data.get("error") if isinstance(reply.data, Mapping) else None
    code = error.get("code") if isinstance(error, Mapping) else None
    return code if isinstance(code, str) else None
