"""Pipelines and their definitions: read, checked, made, changed, deleted.

Facts: Orchestra docs, API, "List pipelines", "Get a pipeline", "Get pipeline data", "Create a pipeline", "Update a
pipeline", "Delete a pipeline", "Import a pipeline", "Update pipeline storage settings", "Validate pipeline schema"
(20 requests a minute). Where the reference and orchestra-cli 0.5.2 differ, what the command-line client sends is tried
first. To pause a pipeline has no published path, so nothing here does it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal
from uuid import UUID

import anyio
from pydantic.alias_generators import to_camel

from connectors.http.answers import Reply
from orchestra.api.answers import judge_once
from orchestra.api.definitions import parse_definition
from orchestra.api.endpoints import Endpoints, advised, given, model, models
from orchestra.api.models import Pipeline
from orchestra.api.records import SchemaProblem
from runner.errors import RequestRefused

StorageProvider = Literal["ORCHESTRA", "GITHUB", "GITLAB", "AZURE_DEVOPS", "BITBUCKET"]

# orchestra-cli reads the first path, the reference names the second.
_DATA = ("pipeline/data", "pipelines/data")
_GONE = "Check its alias or id, and that the API key is of its workspace."


class Catalog(Endpoints):
    """The pipelines of a workspace."""

    _data: tuple[str, ...] = _DATA
    # The command-line client writes storage_provider, the reference storageProvider.
    _camel = False

    def pipelines(self, *, name: str | None = None) -> AsyncGenerator[list[Pipeline], None]:
        """Return pages of pipelines; leave it with ``aclosing``.

        Args:
            name: A part of their names, in any case; all by default.
        """
        return self._named(models(Pipeline, self.transport.pages("pipelines", given(name=name))), name)

    async def _named(
        self, pages: AsyncGenerator[list[Pipeline], None], name: str | None
    ) -> AsyncGenerator[list[Pipeline], None]:
        try:
            async for page in pages:
                # Without paging there is no filter either, and all come.
                found = [one for one in page if not name or name.lower() in (one.name or "").lower()]
                if found:
                    yield found
        finally:
            await pages.aclose()

    async def pipeline(self, pipeline: str) -> Pipeline | None:
        """Return a pipeline by alias or id; None where there is none."""
        reply = await self.transport.read("pipeline", selector(pipeline), missing=True)
        return None if reply is None else model(Pipeline, reply.data, reply)

    async def definition(
        self, pipeline: str, *, branch: str | None = None, commit: str | None = None, version: int | None = None
    ) -> dict[str, Any] | None:
        """Return the definition of a pipeline; None where there is none, or no mapping.

        It may come as YAML, as JSON, as a text of either, or inside an object, under ``yaml``, ``data`` or ``content``;
        its keys may be spelled as in YAML or as in the API (dependsOn).
        """
        asked = given(branch=branch, commit=commit, version=None if version is None else str(version))
        for path in self._data:
            reply = await self.transport.read(path, {**selector(pipeline), **asked}, missing=True)
            if reply is not None:
                self._data = (path,)
                return await anyio.to_thread.run_sync(parse_definition, reply.data, reply.text)
        return None

    async def check_definition(self, document: Mapping[str, Any]) -> list[SchemaProblem]:
        """Return what Orchestra finds wrong with a definition; nothing is saved.

        Connections that it names are looked for in the workspace.
        """
        reply = await self.transport.repeat(
            "POST", "pipelines/schema", json=dict(document), accept=lambda reply: reply.status == 422
        )
        assert reply is not None
        if reply.status != 422:
            return []
        detail = reply.data.get("detail") if isinstance(reply.data, Mapping) else None
        if isinstance(detail, list) and detail:
            return [model(SchemaProblem, one, reply) for one in detail]
        return [SchemaProblem(msg=str(detail or reply.text or "Orchestra does not accept it."))]

    # Changes.

    async def create_pipeline(
        self, document: Mapping[str, Any], *, alias: str | None = None, published: bool = True
    ) -> Pipeline:
        """Make a pipeline that Orchestra keeps; it is sent at most once.

        Raises:
            NotDelivered: Nothing was made.
            DeliveryRefused: Nothing was made, and another attempt cannot help.
            OutcomeUnknown: It may have been made.
        """
        body = {"data": dict(document), "published": published, "storage_provider": "ORCHESTRA", **given(alias=alias)}
        return await self._make("pipelines", body, f"the making of the pipeline {alias or document.get('name')!r}")

    async def import_pipeline(
        self,
        *,
        storage_provider: StorageProvider,
        repository: str,
        default_branch: str,
        yaml_path: str,
        alias: str | None = None,
        working_branch: str | None = None,
    ) -> Pipeline:
        """Make a pipeline of a file in git; it is sent at most once, as ``create_pipeline``.

        Args:
            repository: Owner and name.
        """
        body = {
            "storage_provider": storage_provider,
            "repository": repository,
            "default_branch": default_branch,
            "yaml_path": yaml_path,
            **given(alias=alias, working_branch=_other(working_branch, default_branch)),
        }
        return await self._make("pipelines/import", body, f"the import of {yaml_path!r} of {repository}")

    async def update_pipeline(self, pipeline: str, document: Mapping[str, Any], *, published: bool = True) -> Pipeline:
        """Give a pipeline that Orchestra keeps another definition.

        Raises:
            RequestRefused: There is no such pipeline, or it is kept in git, or the definition is wrong.
        """
        body = {
            "data": dict(document),
            "published": published,
            "storage_provider": "ORCHESTRA",
            **selector(pipeline),
        }
        # The reference of an update has no storageProvider.
        reply = await self._change("PUT", "pipelines", body, only_snake=("storage_provider",))
        return model(Pipeline, reply.data, reply)

    async def update_storage(
        self,
        pipeline: str,
        *,
        path: str,
        repository: str,
        storage_provider: StorageProvider,
        default_branch: str,
        working_branch: str | None = None,
    ) -> None:
        """Say where in git a pipeline is kept from now on."""
        body = {
            "path": path,
            "repository": repository,
            "storage_provider": storage_provider,
            "default_branch": default_branch,
            **given(working_branch=_other(working_branch, default_branch)),
        }
        await self._change("PATCH", "pipelines/storage-settings", body, selector(pipeline))

    async def delete_pipeline(self, pipeline: str) -> bool:
        """Delete a pipeline; tell whether there was one.

        Raises:
            PermissionMissing: Orchestra may want somebody who is logged in for that, rather than an API key.
        """
        return await self.transport.repeat("DELETE", "pipelines", params=selector(pipeline), missing=True) is not None

    async def _make(self, path: str, body: dict[str, Any], what: str) -> Pipeline:
        look = "look the pipeline up by its alias" if body.get("alias") else "look through the list of pipelines"
        camel = self._camel
        with advised(look):
            reply = await self.transport.once(path, _spelled(body, camel), what)
            if _misspelt(reply, body):
                # What is refused has not been made: the other spelling may be sent.
                other = await self.transport.once(path, _spelled(body, not camel), what)
                if not _misspelt(other, body):
                    self._camel, reply = not camel, other
            return self.settled(judge_once(reply, Pipeline, "id", what, self.workspace, now=self.clock.now()), reply)

    async def _change(
        self,
        method: str,
        path: str,
        body: dict[str, Any],
        params: Mapping[str, str] | None = None,
        *,
        only_snake: tuple[str, ...] = (),
    ) -> Reply:
        async def send(spelling: bool, *, last: bool) -> Reply | None:
            return await self.transport.repeat(
                method,
                path,
                params=params,
                json=_spelled(body, spelling, only_snake),
                missing=True,
                accept=lambda reply: not last and _misspelt(reply, body),
            )

        camel = self._camel
        reply = await send(camel, last=False)
        if reply is not None and reply.status == 422:
            reply = await send(not camel, last=True)
            self._camel = not camel
        if reply is None:
            named = {**body, **(params or {})}
            name = named.get("alias") or named.get("pipeline_id")
            raise RequestRefused(f"Orchestra: {method} /{path}: there is no pipeline {name!r}.", guidance=_GONE)
        return reply


def _misspelt(reply: Reply, body: Mapping[str, Any]) -> bool:
    """Tell whether an answer refuses how the keys of a request are spelled."""
    detail = reply.data.get("detail") if reply.status == 422 and isinstance(reply.data, Mapping) else None
    keys = {*body, *map(to_camel, body)}
    return any(
        isinstance(one, Mapping)
        and one.get("type") in ("extra_forbidden", "missing")
        and isinstance(one.get("loc"), list)
        and len(one["loc"]) == 2
        and one["loc"][1] in keys
        for one in (detail if isinstance(detail, list) else ())
    )


def _spelled(body: Mapping[str, Any], camel: bool, only_snake: tuple[str, ...] = ()) -> dict[str, Any]:
    if not camel:
        return dict(body)
    return {to_camel(key): value for key, value in body.items() if key not in only_snake}


def selector(pipeline: str) -> dict[str, str]:
    """Return what names a pipeline in a request."""
    return {"pipeline_id" if is_id(pipeline) else "alias": pipeline}


def is_id(pipeline: str) -> bool:
    """Tell whether this is the id of a pipeline; else it is an alias."""
    try:
        UUID(pipeline)
    except ValueError:
        return False
    return True


def _other(branch: str | None, default: str) -> str | None:
    return None if branch == default else branch
