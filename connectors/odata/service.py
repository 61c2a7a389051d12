"""Requests of one service: $metadata, pages of entities, links that lead on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import anyio

from connectors.http import Http, Reply
from connectors.odata.config import ODataConfig
from connectors.odata.edm import Model
from connectors.odata.metadata import read_model
from runner.errors import RequestRefused, SourceDown, TableMissing, UsageError

Options = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """One page of entities.

    Attributes:
        following: Where the next page is, seen from the service.
        delta: Where what changes from now on will be, seen from the service.
        applied: The preferences that the server followed.
        count: How many entities there are on all pages, where that was asked for.
    """

    rows: list[dict[str, Any]]
    following: str | None
    delta: str | None
    applied: str
    count: int = 0


class Service:
    """One service over an open session."""

    def __init__(self, http: Http, config: ODataConfig) -> None:
        self.http = http
        self.config = config
        self._model: Model | None = None
        self._turn = anyio.Lock()

    async def model(self, *, anew: bool = False) -> Model:
        """Return what $metadata declares; read once unless it may have changed."""
        async with self._turn:
            if self._model is None or anew:
                reply = await self.http.get(
                    "$metadata", params=self._options("", (), 0), headers={"Accept": "application/xml"}
                )
                model = await anyio.to_thread.run_sync(read_model, reply.body)
                if self.config.version not in ("auto", model.version):
                    raise UsageError(
                        f"The service speaks OData {model.version}.0, and version is {self.config.version}.",
                        guidance="Leave version out of the source: it is found.",
                    )
                self._model = model
            return self._model

    async def entities(self, link: str, options: Options = (), *, prefer: Sequence[str] = ()) -> Answer:
        """Return one page.

        Args:
            link: An entity set, or a link of an earlier page, seen from the service.
        """
        reply = await self._get(link, options, prefer)
        data = reply.data
        if not isinstance(data, Mapping):
            raise SourceDown(f"{reply.where} did not answer with JSON.")
        version = (await self.model()).version
        body = data.get("d") if version == 2 else data
        rows = body if isinstance(body, list) else None
        if isinstance(body, Mapping):
            rows = body.get("results" if version == 2 else "value")
        if not isinstance(rows, list):
            raise SourceDown(f"{reply.where} answered without entities.")
        links = body if isinstance(body, Mapping) else {}
        following = links.get("__next") if version == 2 else links.get("@odata.nextLink") or links.get("@nextLink")
        delta = links.get("__delta") if version == 2 else links.get("@odata.deltaLink") or links.get("@deltaLink")
        if isinstance(following, str) and "deltatoken=" in following.lower():
            # ODP ends with the link to its next delta where others have the one to the next page.
            following, delta = None, following
        applied = reply.headers.get("Preference-Applied") or ""
        count = str(links.get("__count" if version == 2 else "@odata.count", links.get("@count", "")))
        number = int(count) if count.isdigit() else 0
        return Answer(rows, self._seen(following, reply), self._seen(delta, reply), applied, number)

    async def count(self, entity_set: str, options: Options = ()) -> int:
        """Return how many entities there are; 0 where the service does not say."""
        try:
            reply = await self._get(f"{entity_set}/$count", options, (), accept="text/plain")
            text = reply.text.strip()
            return int(text) if text.isdigit() else 0
        except (RequestRefused, TableMissing):
            # Some services count beside a page alone.
            asked = ("$inlinecount", "allpages") if (await self.model()).version == 2 else ("$count", "true")
            answer = await self.entities(entity_set, [*options, asked, ("$top", "1")])
            return answer.count

    async def _get(self, link: str, options: Options, prefer: Sequence[str], accept: str = "application/json") -> Reply:
        version = (await self.model()).version
        headers = {"Accept": accept}
        if version == 2:
            headers |= {"DataServiceVersion": "2.0", "MaxDataServiceVersion": "2.0"}
        else:
            headers |= {"OData-Version": "4.0", "OData-MaxVersion": "4.01"}
        if prefer:
            headers["Prefer"] = ", ".join(prefer)
        return await self.http.get(link, params=self._options(link, options, version), headers=headers)

    def _options(self, link: str, options: Options, version: int) -> list[tuple[str, str]]:
        """Return the options of a request and those of every request that its link does not have."""
        there = {name for name, _ in parse_qsl(urlsplit(link).query, keep_blank_values=True)}
        own = self.config.options(version)
        if link.endswith("/$count"):
            own.pop("$format", None)
        return [*options, *((name, text) for name, text in own.items() if name not in there)]

    def _seen(self, link: Any, reply: Reply) -> str | None:
        """Return a link as it is seen from the service.

        Systems behind a proxy name themselves as they know themselves: the host is not looked at, and never asked.
        """
        if not isinstance(link, str) or not link:
            return None
        parts = urlsplit(urljoin(reply.url, link))
        root = urlsplit(self.http.base).path.rstrip("/")
        below = parts.path.startswith(f"{root}/")
        path = parts.path[len(root) + 1 :] if below else parts.path.rpartition("/")[2]
        if not path:
            raise RequestRefused(f"{reply.where} leads on to an address that is none of the service's.")
        return f"{path}?{parts.query}" if parts.query else path

    async def complete(self, rows: list[dict[str, Any]], expanded: Sequence[str]) -> None:
        """Add what a page has only the first part of: children of which the server sent no more."""
        for row in rows:
            for name in expanded:
                inner = row.get(name)
                following = row.get(f"{name}@odata.nextLink")
                if isinstance(inner, Mapping) and isinstance(inner.get("results"), list):
                    following, inner = inner.get("__next"), inner["results"]
                    row[name] = inner
                seen = self._relative(following)
                while seen is not None and isinstance(inner, list):
                    answer = await self.entities(seen)
                    inner.extend(answer.rows)
                    seen = answer.following

    def _relative(self, link: Any) -> str | None:
        if not isinstance(link, str):
            return None
        return self._seen(link, Reply("GET", f"{self.http.base.rstrip('/')}/", 200, {}, b""))
