"""The server: paths of Orchestra's API, of its webhook, and in which order a request is looked at.

Facts: Orchestra docs, API. Stricter than Orchestra in one thing, so that a misspelt request is seen: a query parameter
that nothing reads is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from connectors.testing.double import Double, answer
from orchestra.testing import refusals
from orchestra.testing.refusals import Refusal, invalid
from orchestra.testing.state import TERMINAL, Pipeline, Run, Workspace

PREFIX = "/api/engine/public"
_SELECTORS = {"pipeline_id", "alias", "repository", "yaml_path", "version", "branch", "commit"}
_PAGE = {"page", "page_size"}
_WINDOW = {"time_from", "time_to", "status", "pipeline_ids"}
_Handler = Callable[[web.Request, Workspace], Awaitable[web.Response]]


def _now() -> datetime:
    return datetime.now(UTC)


class OrchestraDouble(Double):
    """Orchestra on the loopback, with one workspace to begin with.

    Args:
        now: The time, for stamps and for what becomes of runs.
        keys: API keys and their workspaces are in ``workspaces``; this is the key of the first.

    Attributes:
        workspace: The first workspace.
        form: How the definition of a pipeline is answered: yaml, text (JSON), data, content, yaml_key, or document.
        bare: Whether the task runs of a run come as a list without a page.
        events: Every event of the webhook, in order.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _now,
        key: str = "key-of-the-first-workspace",
        latency: float = 0.0,
        port: int = 0,
    ) -> None:
        super().__init__(latency=latency, port=port)
        self.now = now
        self.key = key
        self.workspace = Workspace(now)
        self.workspaces = {key: self.workspace}
        self.form = "yaml"
        self.bare = False
        self.events: list[dict[str, Any]] = []

    @property
    def base_url(self) -> str:
        """The address that paths of the API follow."""
        return f"{self.url}{PREFIX}"

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get(f"{PREFIX}/pipelines", self._open(self._pipelines)),
            web.get(f"{PREFIX}/pipeline", self._open(self._pipeline)),
            web.get(f"{PREFIX}/pipeline/data", self._open(self._data)),
            web.post(f"{PREFIX}/pipelines/schema", self._schema),
            web.post(f"{PREFIX}/pipelines/{{pipeline}}/start", self._open(self._start)),
            web.get(f"{PREFIX}/pipeline_runs", self._open(self._runs)),
            web.get(f"{PREFIX}/pipeline_runs/{{run}}/status", self._open(self._status)),
            web.get(f"{PREFIX}/pipeline_runs/{{run}}/task_runs", self._open(self._tasks_of)),
            web.post(f"{PREFIX}/pipeline_runs/{{run}}/cancel", self._open(self._cancel)),
            web.get(f"{PREFIX}/task_runs", self._open(self._tasks)),
            web.get("/public/v1/accounts", self._open(self._accounts)),
            web.post("/", self._open(self._event)),
        ]

    def unknown(self, request: web.Request, status: int) -> web.Response:
        return Refusal(status, "Method Not Allowed" if status == 405 else "Not Found").response()

    def _open(self, handler: _Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return a handler behind the key."""

        async def handle(request: web.Request) -> web.Response:
            try:
                scheme, _, key = request.headers.get("Authorization", "").partition(" ")
                workspace = self.workspaces.get(key) if scheme.lower() == "bearer" else None
                if workspace is None:
                    raise Refusal(401, "Invalid or missing API key")
                account = request.headers.get("X-Orchestra-Account-Id")
                if account is not None and account != workspace.account:
                    raise Refusal(403, "This API key belongs to another account")
                return await handler(request, workspace)
            except Refusal as refusal:
                return refusal.response()

        return handle

    # Pipelines.

    async def _pipelines(self, request: web.Request, workspace: Workspace) -> web.Response:
        query = refusals.query_of(request, _PAGE | {"name"})
        found = [
            one.shown()
            for one in sorted(workspace.pipelines.values(), key=lambda one: one.data["name"])
            if query.get("name", "").lower() in one.data["name"].lower()
        ]
        return answer(_page(found, query) if _PAGE & set(query) else found)

    async def _pipeline(self, request: web.Request, workspace: Workspace) -> web.Response:
        return answer(self._selected(request, workspace).shown())

    async def _data(self, request: web.Request, workspace: Workspace) -> web.Response:
        pipeline = self._selected(request, workspace)
        forms: Mapping[str, Any] = {
            "text": pipeline.yaml,
            "yaml_key": {"yaml": pipeline.yaml},
            "data": {"data": pipeline.data},
            "content": {"content": pipeline.yaml},
            "document": pipeline.data,
        }
        if self.form == "yaml":
            return answer(pipeline.yaml, headers={"Content-Type": "application/yaml"})
        if self.form == "text":
            return web.json_response(pipeline.yaml)
        return answer(forms[self.form])

    def _selected(self, request: web.Request, workspace: Workspace) -> Pipeline:
        query = refusals.query_of(request, _SELECTORS)
        named = [name for name in ("pipeline_id", "alias", "repository") if name in query]
        if len(named) != 1:
            raise Refusal(400, "Give exactly one of pipeline_id, alias, or repository and yaml_path")
        if named == ["repository"] and "yaml_path" not in query:
            raise invalid(["query", "yaml_path"], "Field required", "missing")
        if named == ["pipeline_id"]:
            refusals.uuid_of(query["pipeline_id"], ["query", "pipeline_id"])
        name = query[named[0]]
        found = next((one for one in workspace.pipelines.values() if name == getattr(one, _attribute(named[0]))), None)
        if found is None:
            raise Refusal(404, "Pipeline not found")
        return found

    async def _schema(self, request: web.Request) -> web.Response:
        try:
            data = refusals.object_of(await request.read(), request.content_type)
            for name in ("version", "name", "pipeline"):
                if name not in data:
                    raise invalid(["body", name], "Field required", "missing")
        except Refusal as refusal:
            return refusal.response()
        return answer({"message": "The pipeline is valid."})

    async def _start(self, request: web.Request, workspace: Workspace) -> web.Response:
        refusals.query_of(request, ())
        pipeline = workspace.find(request.match_info["pipeline"])
        if pipeline is None:
            raise Refusal(404, "Pipeline not found")
        body = refusals.start_of(await request.read(), request.content_type)
        if pipeline.paused:
            raise Refusal(400, "Pipeline is paused")
        if unknown := set(body.get("taskIds") or ()) - set(pipeline.tasks):
            raise invalid(["body", "taskIds"], f"There is no task {sorted(unknown)[0]}")
        partial = body.get("taskIds") or body.get("retryFromFailed")
        if body.get("continueDownstreamRun") and not partial:
            raise invalid(["body", "continueDownstreamRun"], "Only with taskIds or retryFromFailed")
        inputs = refusals.inputs_of(pipeline.inputs, body.get("runInputs") or {})
        run = workspace.start(pipeline, inputs, body)
        return answer({"id": run.id, "pipelineRunId": run.id, "message": "Pipeline run started"}, status=201)

    # Runs.

    async def _runs(self, request: web.Request, workspace: Workspace) -> web.Response:
        query = refusals.query_of(request, _PAGE | _WINDOW | {"pipeline_run_ids", "environments"})
        now = self.now()
        begin, end = refusals.window_of(query, now, timedelta(days=7))
        statuses = refusals.statuses_of(query)
        pipelines, runs = refusals.ids_of(query, "pipeline_ids"), refusals.ids_of(query, "pipeline_run_ids")
        refusals.ids_of(query, "environments")
        found = [
            run.shown(now, workspace.account)
            for run in _newest(workspace)
            if begin <= run.created <= end
            and run.listed_at <= now
            and (not pipelines or run.pipeline.id in pipelines)
            and (not runs or run.id in runs)
            and (not statuses or run.status(now) in statuses)
        ]
        return answer(_page(found, query))

    async def _status(self, request: web.Request, workspace: Workspace) -> web.Response:
        refusals.query_of(request, ())
        shown = self._found(request, workspace).shown(self.now(), workspace.account)
        keys = ("id", "pipelineId", "pipelineName", "runStatus", "message", "createdAt")
        return answer({key: shown[key] for key in keys})

    async def _tasks_of(self, request: web.Request, workspace: Workspace) -> web.Response:
        query = refusals.query_of(request, _PAGE)
        found = self._found(request, workspace).shown_tasks(self.now(), workspace.account)
        page = _page(found, query)
        return answer(found if self.bare else page)

    async def _tasks(self, request: web.Request, workspace: Workspace) -> web.Response:
        # pipeline_run_ids is taken and does not filter.
        known = {"integration", "task_run_ids", "include_superseded", "pipeline_run_ids"}
        query = refusals.query_of(request, _PAGE | _WINDOW | known)
        now = self.now()
        begin, end = refusals.window_of(query, now, timedelta(days=1))
        statuses = refusals.statuses_of(query)
        pipelines, tasks = refusals.ids_of(query, "pipeline_ids"), refusals.ids_of(query, "task_run_ids")
        found = [
            task
            for run in _newest(workspace)
            if not pipelines or run.pipeline.id in pipelines
            for task in run.shown_tasks(now, workspace.account)
            if begin <= datetime.fromisoformat(task["createdAt"]) <= end
            and (not tasks or task["id"] in tasks)
            and (not statuses or task["status"] in statuses)
        ]
        return answer(_page(found, query))

    async def _cancel(self, request: web.Request, workspace: Workspace) -> web.Response:
        refusals.query_of(request, ())
        run = self._found(request, workspace)
        if run.status(self.now()) in TERMINAL:
            raise Refusal(400, "Pipeline run has already finished")
        workspace.finish(run.id, "CANCELLED")
        return answer({"message": "Pipeline run is being cancelled"})

    def _found(self, request: web.Request, workspace: Workspace) -> Run:
        run = workspace.runs.get(refusals.uuid_of(request.match_info["run"], ["path", "pipeline_run_id"]))
        if run is None:
            raise Refusal(404, "Pipeline run not found")
        return run

    # The rest.

    async def _accounts(self, request: web.Request, workspace: Workspace) -> web.Response:
        return answer([{"id": workspace.account, "name": "First"}])

    async def _event(self, request: web.Request, workspace: Workspace) -> web.Response:
        event = refusals.event_of(await request.read(), request.content_type)
        task = workspace.task_run(str(event["task_run_id"]))
        if task is None:
            missing = {"success": False, "error": "Task run not found", "code": "TASK_NOT_FOUND"}
            return answer(missing, status=404)
        if event["event_type"] == "SET_OUTPUT":
            task.outputs[event["output_name"]] = event["output_value"]
        if event["event_type"] == "UPDATE_STATUS":
            task.status = event["status"]
        self.events.append(event)
        return answer({"success": True, "message": "Event processed", "task_run_id": event["task_run_id"]})


def _newest(workspace: Workspace) -> list[Run]:
    return sorted(workspace.runs.values(), key=lambda run: run.created, reverse=True)


def _page(found: list[Any], query: Mapping[str, str]) -> dict[str, Any]:
    page, size = refusals.page_of(query)
    return {"page": page, "pageSize": size, "total": len(found), "results": found[(page - 1) * size : page * size]}


def _attribute(selector: str) -> str:
    return {"pipeline_id": "id", "alias": "alias", "repository": "alias"}[selector]
