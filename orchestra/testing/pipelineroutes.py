"""What the API answers about pipelines.

Facts: Orchestra docs, API, "Pipelines"; orchestra-cli 0.5.2 (bodies in snake case, a form of each answer);
orchestra-mcp (bodies in camel case).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from aiohttp import web

from connectors.testing.double import answer
from orchestra.testing import refusals, schema
from orchestra.testing.pipeline import PROVIDERS, Pipeline, Storage, read, tasks_of, text_of
from orchestra.testing.refusals import Refusal, invalid
from orchestra.testing.request import Asked, Route, json_answer
from orchestra.testing.run import downstream
from orchestra.testing.taskrun import TERMINAL

_SELECTORS = ("pipeline_id", "alias", "repository", "yaml_path")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TEXT, _FLAG = (str,), (bool,)
_VERSION: dict[str, tuple[type, ...]] = {"data": (dict, str), "published": _FLAG}
_KEPT: dict[str, tuple[type, ...]] = {
    **_VERSION,
    "storage_provider": _TEXT,
    "alias": _TEXT,
    "default_branch": _TEXT,
    "repository": _TEXT,
    "working_branch": _TEXT,
    "yaml_path": _TEXT,
    "message": _TEXT,
    "message_is_custom": _FLAG,
}
_CAMEL = {
    "storageProvider": "storage_provider",
    "defaultBranch": "default_branch",
    "workingBranch": "working_branch",
    "yamlPath": "yaml_path",
    "messageIsCustom": "message_is_custom",
    "pipelineId": "pipeline_id",
}


async def listed(asked: Asked) -> web.StreamResponse:
    """All pipelines by name; a page of them only when one is asked for."""
    query = asked.paged({"name"})
    name = query.pop("name", "").lower()
    found = [one for one in asked.workspace.pipelines.values() if name in one.data["name"].lower()]
    found.sort(key=lambda one: one.data["name"])
    latest = asked.workspace.latest_runs(asked.now)
    if not query:
        return answer([one.shown(latest.get(one.id)) for one in found])
    head, page = asked.page(found, query)
    return answer({**head, "results": [one.shown(latest.get(one.id)) for one in page]})


async def one(asked: Asked) -> web.StreamResponse:
    """One pipeline, by a selector."""
    found, _ = _selected(asked)
    return answer(_shown(asked, found))


async def data(asked: Asked) -> web.StreamResponse:
    """The definition of a pipeline."""
    _, text = _selected(asked)
    form, document = asked.readings.form, read(text)
    if form == "yaml":
        return answer(text, headers={"Content-Type": "application/yaml"})
    forms: Mapping[str, Any] = {
        "model": schema.canonical(document),
        "text": text,
        "yaml_key": {"yaml": text},
        "data": {"data": document},
        "content": {"content": text},
        "document": document,
    }
    return json_answer(forms[form])


async def created(asked: Asked) -> web.StreamResponse:
    """A pipeline of its own, or one whose definition lives in git."""
    asked.query()
    body = await _body(asked, _KEPT)
    text = _checked(body)
    storage = _storage(body)
    made = asked.workspace.add(
        _free_alias(asked, body.get("alias")), text, published=storage.git or body["published"], storage=storage
    )
    return _changed(asked, made, text, 201)


async def updated(asked: Asked) -> web.StreamResponse:
    """A new version, by a selector in the body, or an alias in the query."""
    query = asked.query({"alias"})
    known = {**_VERSION, "alias": _TEXT, "pipeline_id": _TEXT}
    body = await _body(asked, {**known, "storage_provider": _TEXT} if asked.readings.stored_updates else known)
    named = body.get("pipeline_id") or body.get("alias") or query.get("alias")
    if not named:
        raise Refusal(400, "Give pipeline_id or alias")
    found = asked.workspace.find(named)
    if found is None:
        raise Refusal(404, "Pipeline not found")
    return _update(asked, found, body)


async def updated_by_alias(asked: Asked) -> web.StreamResponse:
    """A new version; this path takes nothing but the definition."""
    asked.query()
    return _update(asked, asked.pipeline(), await _body(asked, _VERSION))


def _update(asked: Asked, pipeline: Pipeline, body: dict[str, Any]) -> web.Response:
    if pipeline.storage.git or body.get("storage_provider", "ORCHESTRA") != "ORCHESTRA":
        raise Refusal(400, "The definition of a git-backed pipeline is changed in its repository")
    text = _checked(body)
    pipeline.add(text, asked.now, publish=body["published"])
    asked.workspace.keep(pipeline)
    return _changed(asked, pipeline, text)


async def deleted(asked: Asked) -> web.StreamResponse:
    """A pipeline less."""
    if not asked.login and not asked.readings.keys_delete:
        raise Refusal(403, "Pipelines are deleted by a user who is signed in, not by an API key")
    found, _ = _selected(asked)
    asked.workspace.forget(found)
    return web.Response(status=204)


async def imported(asked: Asked) -> web.StreamResponse:
    """A pipeline whose definition lives in git, read from there."""
    asked.query()
    known = dict.fromkeys(("repository", "storage_provider", "default_branch", "yaml_path"), _TEXT)
    body = await _body(asked, {**known, "alias": _TEXT, "working_branch": _TEXT}, known)
    storage = _storage(body)
    if not storage.git:
        raise invalid(["body", "storage_provider"], f"Input should be {' or '.join(PROVIDERS[1:])}", "enum")
    folder = asked.workspace.folder
    path = (folder / body["yaml_path"]).resolve() if folder is not None else None
    if path is None or folder is None or not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise Refusal(400, f"{body['yaml_path']} cannot be read from {body['repository']}")
    text = _checked({"data": path.read_text("utf-8")})
    made = asked.workspace.add(_free_alias(asked, body.get("alias")), text, storage=storage)
    return _changed(asked, made, text, 201)


async def stored(asked: Asked) -> web.StreamResponse:
    """A pipeline moves into git."""
    found, _ = _selected(asked, ("pipeline_id", "alias"))
    known = dict.fromkeys(("path", "repository", "storage_provider", "default_branch"), _TEXT)
    body = await _body(asked, {**known, "working_branch": _TEXT}, known)
    storage = _storage({**body, "yaml_path": body["path"]})
    if not storage.git:
        raise invalid(["body", "storage_provider"], f"Input should be {' or '.join(PROVIDERS[1:])}", "enum")
    found.storage, found.updated = storage, asked.now
    asked.workspace.keep(found)
    return _changed(asked, found, found.yaml)


async def checked(request: web.Request) -> web.Response:
    """The check of a definition; it needs no key."""
    try:
        query = refusals.query_of(request, {"canonicalize"})
        document = refusals.object_of(await request.read(), request.content_type)
        if wrong := schema.problems(document):
            raise Refusal(422, wrong)
        more = {"pipeline": schema.canonical(document)} if refusals.flag_of(query, "canonicalize") else {}
    except Refusal as refusal:
        return refusal.response()
    return answer({"message": "The pipeline is valid.", "status": "VALID", **more})


async def started(asked: Asked) -> web.StreamResponse:
    """A run more."""
    asked.query()
    workspace, pipeline = asked.workspace, asked.pipeline()
    body = refusals.start_of(await asked.request.read(), asked.request.content_type)
    if pipeline.paused:
        raise Refusal(400, "Pipeline is paused")
    version = body.get("versionNumber")
    if pipeline.published is None and version is None:
        raise Refusal(400, "Pipeline has no published version")
    text = pipeline.at(version=version, ref=body.get("commit") or body.get("branch"))
    if text is None:
        raise Refusal(400, "There is no such version, branch or commit of the pipeline")
    if body.get("environment") and workspace.find_environment(body["environment"]) is None:
        raise Refusal(400, "Environment not found")
    definition = read(text)
    given = body.get("runInputs") or {}
    wanted = body.get("taskIds") or None
    if unknown := set(wanted or ()) - set(tasks_of(definition)):
        raise invalid(["body", "taskIds"], f"There is no task {sorted(unknown)[0]}")
    if body.get("continueDownstreamRun") and not (wanted or body.get("retryFromFailed")):
        raise invalid(["body", "continueDownstreamRun"], "Only with taskIds or retryFromFailed")
    trigger = "RESTART_FROM_SELECTED" if wanted else "MANUAL"
    if body.get("retryFromFailed"):
        trigger = "RESTART_FROM_FAILED"
        wanted, kept = _failed(asked, pipeline)
        given = {**kept, **given}
    if wanted and body.get("continueDownstreamRun"):
        wanted = downstream(definition, wanted)
    inputs = refusals.inputs_of(definition.get("inputs") or {}, given)
    run = workspace.start(pipeline, inputs, body, trigger, definition=text, wanted=wanted)
    return answer({"id": run.id, "pipelineRunId": run.id, "message": "Pipeline run started"})


def _failed(asked: Asked, pipeline: Pipeline) -> tuple[list[str], dict[str, Any]]:
    """Return the tasks of the newest run that did not succeed, and its inputs."""
    runs = [one for one in asked.workspace.runs.values() if one.pipeline == pipeline.id]
    last = max(runs, key=lambda one: one.created, default=None)
    if last is None or last.status(asked.now) not in TERMINAL:
        raise Refusal(400, "There is no finished run to retry")
    bad = [one.task for one in last.task_runs(asked.now) if one.status(asked.now) not in ("SUCCEEDED", "WARNING")]
    if not bad:
        raise Refusal(400, "The latest run has no failed tasks")
    return bad, last.inputs


def _selected(asked: Asked, selectors: tuple[str, ...] = _SELECTORS) -> tuple[Pipeline, str]:
    """Return the pipeline that a query selects, and its definition at the version, branch or commit of the query."""
    more = {"version", "branch", "commit"} if asked.request.method == "GET" else set()
    query = asked.query({*selectors, *more})
    named = [name for name in ("pipeline_id", "alias", "repository") if name in query]
    if len(named) != 1:
        raise Refusal(400, "Give exactly one of pipeline_id, alias, or repository and yaml_path")
    if named == ["repository"] and "yaml_path" not in query:
        raise invalid(["query", "yaml_path"], "Field required", "missing")
    if named == ["pipeline_id"]:
        refusals.uuid_of(query["pipeline_id"], ["query", "pipeline_id"])
    version = query.get("version")
    if version is not None and not version.isdecimal():
        raise invalid(["query", "version"], "Input should be a valid integer", "int_parsing")
    for one in asked.workspace.pipelines.values():
        by = {"pipeline_id": one.id, "alias": one.alias, "repository": one.storage.repository}
        if by[named[0]] == query[named[0]] and query.get("yaml_path") in (None, one.storage.yaml_path):
            text = one.at(
                version=None if version is None else int(version), ref=query.get("commit") or query.get("branch")
            )
            if text is not None:
                return one, text
    raise Refusal(404, "Pipeline not found")


async def _body(
    asked: Asked, known: Mapping[str, tuple[type, ...]], needed: Collection[str] = ("data", "published")
) -> dict[str, Any]:
    """Return the body of a change, in snake case: the reference has camel case, orchestra-cli sends this one."""
    said = await asked.object()
    for name in said:
        if _CAMEL.get(name) in said:
            raise invalid(["body", name], "Input should be given once")
        if _CAMEL.get(name, name) not in known:
            raise invalid(["body", name], "Extra inputs are not permitted", "extra_forbidden")
    return refusals.fields_of({_CAMEL.get(name, name): value for name, value in said.items()}, known, needed)


def _checked(body: Mapping[str, Any]) -> str:
    """Return the definition of a body, as YAML."""
    text = text_of(body["data"])
    try:
        document = read(text)
    except Exception:
        document = None
    if not isinstance(document, dict):
        raise invalid(["body", "data"], "Input should be a valid pipeline", "dict_type")
    if wrong := schema.problems(document):
        raise Refusal(422, [{**one, "loc": ["body", "data", *one["loc"]]} for one in wrong])
    return text


def _storage(body: Mapping[str, Any]) -> Storage:
    provider = body.get("storage_provider", "ORCHESTRA")
    if provider not in PROVIDERS:
        raise invalid(["body", "storage_provider"], f"Input should be {' or '.join(PROVIDERS)}", "enum")
    storage = Storage(
        provider=provider,
        repository=body.get("repository"),
        yaml_path=body.get("yaml_path"),
        default_branch=body.get("default_branch"),
        working_branch=body.get("working_branch"),
    )
    if storage.git and not (storage.repository and storage.yaml_path):
        raise invalid(["body", "repository"], "A git-backed pipeline needs repository and yaml_path", "missing")
    return storage


def _free_alias(asked: Asked, alias: str | None) -> str | None:
    if alias is not None and not _ALIAS.fullmatch(alias):
        raise invalid(["body", "alias"], "Input should be letters, digits, '_', '-' and '.'", "string_pattern_mismatch")
    if alias is not None and asked.workspace.find(alias) is not None:
        raise Refusal(409, f"There is a pipeline {alias} already")
    return alias


def _shown(asked: Asked, pipeline: Pipeline) -> dict[str, Any]:
    return pipeline.shown(asked.workspace.latest_runs(asked.now).get(pipeline.id))


def _changed(asked: Asked, pipeline: Pipeline, text: str, status: int = 200) -> web.Response:
    """Return what a change answers: the pipeline, and its definition with its keys in camel case."""
    more = {"data": schema.canonical(read(text)), "currentVersionNumber": len(pipeline.versions)}
    return answer({**_shown(asked, pipeline), **more}, status=status)


ROUTES: tuple[Route, ...] = (
    ("GET", "/pipelines", listed),
    ("POST", "/pipelines", created),
    ("PUT", "/pipelines", updated),
    ("DELETE", "/pipelines", deleted),
    ("PUT", "/pipelines/{pipeline}", updated_by_alias),
    ("GET", "/pipeline", one),
    ("POST", "/pipelines/import", imported),
    ("PATCH", "/pipelines/storage-settings", stored),
    ("POST", "/pipelines/{pipeline}/start", started),
)
