"""A request behind the key, and what the double was told about answers whose form is not sure."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from orchestra.testing import refusals
from orchestra.testing.refusals import Refusal
from orchestra.testing.state import Pipeline, Run, Workspace

PREFIX = "/api/engine/public"


class Readings:
    """Where what is written about the API differs: which reading the double follows.

    Attributes:
        form: How the definition of a pipeline is answered: model (the reference: JSON, keys in camel case), yaml, text
            (JSON), data, content, yaml_key, or document.
        bare: Whether the task runs of a run come as a list without a page.
        size: How the size of a page is called: page_size, or per_page.
        data_paths: Under which paths the definition is: pipelines/data (the reference), pipeline/data (orchestra-cli
            0.5.2).
        single: Whether one run, and one task run, can be read by its id, however old.
        brief: Whether /status answers six keys of a run (the README of Orchestra's MCP server), or all (its reference).
        stored_updates: Whether the update of a pipeline may say where it is stored, as orchestra-cli 0.5.2 does; the
            reference has no such key.
        keys_delete: Whether an API key may delete pipelines; otherwise only a login.
        output_names: Which names of outputs are taken; a regular expression.
    """

    form: str = "yaml"
    bare: bool = False
    size: str = "page_size"
    data_paths: Collection[str] = ("pipeline/data",)
    single: bool = True
    brief: bool = False
    stored_updates: bool = True
    keys_delete: bool = True
    output_names: str = r"[A-Za-z_-]+"


@dataclass(frozen=True)
class Asked:
    """A request that was let in.

    Attributes:
        login: Whether a person has logged in; otherwise an API key was given.
    """

    request: web.Request
    workspace: Workspace
    readings: Readings
    now: datetime
    login: bool

    def query(self, known: Collection[str] = ()) -> dict[str, str]:
        """Return the query, which may have these parameters."""
        return refusals.query_of(self.request, known)

    def paged(self, known: Collection[str] = ()) -> dict[str, str]:
        """Return the query, which may have these parameters and those of pages."""
        return self.query({*known, "page", self.readings.size})

    def page(
        self, found: list[Any], query: Mapping[str, str], *, default: int = 50, most: int = 100
    ) -> tuple[dict[str, Any], list[Any]]:
        """Return a page without its results, and what is on it."""
        page, size = refusals.page_of(query, self.readings.size, default, most)
        head = {"page": page, "pageSize": size, "total": len(found)}
        return head, found[(page - 1) * size : page * size]

    async def object(self) -> dict[str, Any]:
        """Return the body, which is an object."""
        return refusals.object_of(await self.request.read(), self.request.content_type)

    def pipeline(self) -> Pipeline:
        """Return the pipeline of the path, by alias or id."""
        found = self.workspace.find(self.request.match_info["pipeline"])
        if found is None:
            raise Refusal(404, "Pipeline not found")
        return found

    def run(self) -> Run:
        """Return the run of the path."""
        named = refusals.uuid_of(self.request.match_info["run"], ["path", "pipeline_run_id"])
        found = self.workspace.runs.get(named)
        if found is None:
            raise Refusal(404, "Pipeline run not found")
        return found


Handler = Callable[[Asked], Awaitable[web.StreamResponse]]
Route = tuple[str, str, Handler]


def json_answer(body: Any, status: int = 200) -> web.Response:
    """Return an answer whose body is JSON, whatever it is."""
    return web.Response(
        body=json.dumps(body, ensure_ascii=False).encode(), status=status, content_type="application/json"
    )
