"""The double of Orchestra: pipelines, logs, artifacts, metadata, environments and the webhook, one endpoint after the other."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from orchestra.testing import OrchestraDouble
from orchestra.testing.history import add_history
from orchestra.testing.pipeline import Storage, read
from orchestra.testing.request import PREFIX
from orchestra.testing.script import Script
from orchestra.testing.state import Run, Workspace
from tests.orchestraapi import LOAD, Clock, ask
from tests.orchestrareference import REFERENCE, wrong_with

_PIPELINES = f"{PREFIX}/pipelines"
_DATA = read(LOAD)
_DRAFT = {"data": _DATA, "published": False}
_NO_ID = "00000000-0000-4000-8000-000000000000"
_BATCH = [{"text": "one"}, {"text": "two", "after": 5}]
SCRIPT = {
    "tasks": {
        "pull": {
            "attempts": [{"seconds": 2, "status": "FAILED", "message": "lost"}, {"seconds": 10}],
            "log": {"dbt run": _BATCH},
            "operations": [{"name": "orders", "type": "INGESTION", "rows": 5, "seconds": 4}],
            "assets": [{"name": "orders", "integration": "SNOWFLAKE"}],
            "artifacts": {"run_results.json": "{}"},
        }
    }
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def double(clock: Clock) -> Iterator[OrchestraDouble]:
    with OrchestraDouble(now=clock) as server:
        server.workspace.start_after = 0.0
        yield server


@pytest.fixture
def run(double: OrchestraDouble) -> Run:
    pipeline = double.workspace.add("load_orders", LOAD, script=Script.model_validate(SCRIPT))
    return double.workspace.start(pipeline, {"file": "a.csv"})


def got(double: OrchestraDouble, path: str) -> Any:
    status, body = ask(double, f"{PREFIX}{path}")
    assert status == 200, body
    return body


def ids(double: OrchestraDouble, path: str, key: str = "id") -> list[str]:
    return [one[key] for one in got(double, path)["results"]]


# Pipelines.


def test_pipelines_are_a_list_or_a_page(double: OrchestraDouble) -> None:
    for name in ("beta", "Alpha", "gamma"):
        double.workspace.add(name.lower(), {**_DATA, "name": name})
    assert [one["name"] for one in got(double, "/pipelines")] == ["Alpha", "beta", "gamma"]
    assert [one["alias"] for one in got(double, "/pipelines?name=A")] == ["alpha", "beta", "gamma"]
    page = got(double, "/pipelines?page=2&page_size=2")
    assert ({**page, "results": len(page["results"])}) == {"page": 2, "pageSize": 2, "total": 3, "results": 1}


@pytest.mark.parametrize("camel", [True, False])
def test_a_pipeline_is_created_and_changed(double: OrchestraDouble, camel: bool) -> None:
    provider = "storageProvider" if camel else "storage_provider"
    body = {"data": _DATA, "published": False, provider: "ORCHESTRA", "alias": "new"}
    status, made = ask(double, _PIPELINES, body)
    assert (status, made["latestVersionNumber"], made["publishedVersionNumber"]) == (201, 1, None)
    started = ask(double, f"{_PIPELINES}/new/start", {"runInputs": {"file": "a"}})
    assert started == (400, {"detail": "Pipeline has no published version"})
    assert ask(double, _PIPELINES, body)[0] == 409
    more = {"data": {**_DATA, "name": "Newer"}, "published": True}
    selector = {"pipelineId" if camel else "pipeline_id": made["id"]}
    status, changed = ask(double, _PIPELINES, {**more, **selector, provider: "ORCHESTRA"}, method="PUT")
    assert (status, changed["publishedVersionNumber"], changed["name"]) == (200, 2, "Newer")
    status, changed = ask(double, f"{_PIPELINES}/new", {**more, "published": False}, method="PUT")
    assert (status, changed["latestVersionNumber"], changed["publishedVersionNumber"]) == (200, 3, 2)
    refused = ask(double, f"{_PIPELINES}/new", {**more, provider: "ORCHESTRA"}, method="PUT")
    assert (refused[0], refused[1]["detail"][0]["type"]) == (422, "extra_forbidden")
    assert ask(double, f"{PREFIX}/pipeline/data?alias=new&version=1")[1].startswith("version: v1\nname: Load orders")
    assert ask(double, f"{PREFIX}/pipeline?alias=new&version=4")[0] == 404
    started = ask(double, f"{_PIPELINES}/new/start", {"runInputs": {"file": "a"}, "versionNumber": 1})
    assert double.workspace.runs[started[1]["id"]].version == 1


def test_a_wrong_body_is_pointed_at(double: OrchestraDouble) -> None:
    double.workspace.add("kept", LOAD)
    for method, body, status, where in (
        ("POST", {"alias": "a"}, 422, ["body", "data"]),
        ("POST", {"data": _DATA}, 422, ["body", "published"]),
        ("POST", {**_DRAFT, "data": {"version": "v1"}}, 422, ["body", "data", "name"]),
        ("POST", {**_DRAFT, "storage_provider": "SVN"}, 422, ["body", "storage_provider"]),
        ("POST", {**_DRAFT, "storageProvider": "GITHUB"}, 422, ["body", "repository"]),
        (
            "POST",
            {"data": _DATA, "storageProvider": "ORCHESTRA", "storage_provider": "A"},
            422,
            ["body", "storageProvider"],
        ),
        ("POST", {"data": _DATA, "publish": True}, 422, ["body", "publish"]),
        ("POST", {**_DRAFT, "alias": "a/b"}, 422, ["body", "alias"]),
        ("PUT", _DRAFT, 400, "pipeline_id or alias"),
        ("PUT", {**_DRAFT, "alias": "other"}, 404, "Pipeline not found"),
        ("PUT", {**_DRAFT, "alias": "kept", "repository": "a/b"}, 422, ["body", "repository"]),
    ):
        answer = ask(double, _PIPELINES, body, method=method)
        assert answer[0] == status, (body, answer)
        found = answer[1]["detail"]
        assert (found[0]["loc"] == where) if isinstance(where, list) else (where in found)
    assert len(double.workspace.pipelines) == 1


def test_a_pipeline_in_git_is_read_at_a_branch_and_not_changed_here(double: OrchestraDouble) -> None:
    storage = Storage(provider="GITHUB", repository="a/b", yaml_path="p.yml", default_branch="main")
    feature = {**_DATA, "name": "Feature", "inputs": {}}
    double.workspace.add("in_git", LOAD, storage=storage, refs={"main": LOAD, "feature": feature})
    selector = "repository=a/b&yaml_path=p.yml"
    assert got(double, f"/pipeline?{selector}")["storageProvider"] == "GITHUB"
    assert "name: Feature" in ask(double, f"{PREFIX}/pipeline/data?{selector}&branch=feature")[1]
    assert ask(double, f"{PREFIX}/pipeline/data?{selector}&branch=other")[0] == 404
    assert ask(double, f"{_PIPELINES}/in_git/start", {"branch": "other"})[0] == 400
    assert ask(double, f"{_PIPELINES}/in_git/start", {"branch": "feature"})[0] == 200
    status, answer = ask(double, _PIPELINES, {**_DRAFT, "alias": "in_git"}, method="PUT")
    assert (status, "in its repository" in answer["detail"]) == (400, True)


def test_a_pipeline_is_imported_and_moved_into_git(double: OrchestraDouble, tmp_path: Path) -> None:
    (tmp_path / "load.yml").write_text(LOAD)
    body = {"storage_provider": "GITHUB", "repository": "a/b", "default_branch": "main", "yaml_path": "load.yml"}
    assert ask(double, f"{_PIPELINES}/import", body)[0] == 400
    double.workspace.folder = tmp_path
    status, made = ask(double, f"{_PIPELINES}/import", {**body, "alias": "imported"})
    assert (status, made["name"], made["yamlPath"], made["data"]["name"]) == (
        *(201, "Load orders", "load.yml", "Load orders"),
    )
    for wrong in ("../load.yml", "other.yml"):
        assert ask(double, f"{_PIPELINES}/import", {**body, "yaml_path": wrong})[0] == 400
    double.workspace.add("moving", LOAD)
    path = f"{_PIPELINES}/storage-settings?alias=moving"
    settings = {name: value for name, value in body.items() if name != "yaml_path"}
    assert ask(double, path, settings, method="PATCH")[0] == 422
    assert ask(double, path, {**settings, "path": "x.yml"}, method="PATCH")[0] == 200
    assert got(double, "/pipeline?repository=a/b&yaml_path=x.yml")["alias"] == "moving"


def test_who_may_delete_can_be_chosen(double: OrchestraDouble) -> None:
    double.workspace.add("a", LOAD)
    double.workspace.add("b", LOAD)
    assert ask(double, f"{_PIPELINES}?alias=a", method="DELETE")[0] == 204
    assert ask(double, f"{_PIPELINES}?alias=a", method="DELETE")[0] == 404
    double.keys_delete = False
    assert ask(double, f"{_PIPELINES}?alias=b", method="DELETE")[0] == 403
    double.logins["token"] = [double.workspace]
    assert ask(double, f"{_PIPELINES}?alias=b", method="DELETE", key="token")[0] == 204


def test_a_definition_is_checked_without_a_key(double: OrchestraDouble) -> None:
    path = f"{_PIPELINES}/schema"
    status, answer = ask(double, path, _DATA, key=None)
    assert (status, set(answer)) == (200, {"message", "status"})
    assert "pipeline" in ask(double, f"{path}?canonicalize=true", _DATA, key=None)[1]
    wrong = {**_DATA, "pipeline": {"g": {"tasks": {}, "tags": []}}}
    status, answer = ask(double, path, wrong, key=None)
    assert (status, answer["detail"][0]["loc"]) == (422, ["pipeline", "g", "TaskGroupModel", "tags"])


def test_which_readings_it_follows_can_be_chosen(double: OrchestraDouble, run: Run) -> None:
    assert ask(double, f"{_PIPELINES}/data?alias=load_orders")[0] == 404
    double.data_paths = ("pipelines/data",)
    assert ask(double, f"{_PIPELINES}/data?alias=load_orders") == (200, LOAD)
    assert ask(double, f"{PREFIX}/pipeline/data?alias=load_orders")[0] == 404
    double.size = "per_page"
    assert got(double, "/pipeline_runs?per_page=1")["pageSize"] == 1
    assert ask(double, f"{PREFIX}/pipeline_runs?page_size=1")[0] == 422
    assert got(double, f"/pipeline_runs/{run.id}")["id"] == run.id
    whole = got(double, f"/pipeline_runs/{run.id}/status")
    assert whole == got(double, f"/pipeline_runs/{run.id}")
    double.brief = True
    assert set(got(double, f"/pipeline_runs/{run.id}/status")) < set(whole)
    double.form = "model"
    model = got(double, "/pipelines/data?alias=load_orders")
    assert model["pipeline"]["load"]["tasks"]["pull"]["integrationJob"] == "PYTHON_EXECUTE_SCRIPT"
    update = {**_DRAFT, "storage_provider": "ORCHESTRA", "alias": "load_orders"}
    assert ask(double, _PIPELINES, update, method="PUT")[0] == 200
    double.stored_updates = False
    assert ask(double, _PIPELINES, update, method="PUT")[1]["detail"][0]["loc"] == ["body", "storage_provider"]
    assert ask(double, f"{_PIPELINES}?alias=load_orders", _DRAFT, method="PUT")[0] == 200
    double.single = False
    assert ask(double, f"{PREFIX}/pipeline_runs/{run.id}")[0] == 404
    double.bare = True
    assert isinstance(got(double, f"/pipeline_runs/{run.id}/task_runs"), list)


# Runs.


def test_a_start_says_which_tasks_and_where(double: OrchestraDouble, clock: Clock, run: Run) -> None:
    def started(**body: Any) -> tuple[int, Any]:
        return ask(double, f"{_PIPELINES}/load_orders/start", body)

    assert started(environment="Nowhere") == (400, {"detail": "Environment not found"})
    assert started(retryFromFailed=True) == (400, {"detail": "There is no finished run to retry"})
    assert started(versionNumber=9)[0] == 400
    double.workspace.finish(run.id, "FAILED")
    status, answer = started(retryFromFailed=True, continueDownstreamRun=True)
    again = double.workspace.runs[answer["id"]]
    assert (status, again.inputs["file"], again.wanted) == (200, "a.csv", ["pull", "tell"])
    some = double.workspace.runs[started(taskIds=["tell"], runInputs={"file": "b"})[1]["id"]]
    assert [one.task for one in some.tasks] == ["tell"]
    clock.go(seconds=1)
    dev = double.workspace.find_environment("Dev")
    assert dev is not None
    status, answer = started(environment=dev.id, runInputs={"file": "c"})
    assert ids(double, f"/pipeline_runs?environments={dev.id}") == [answer["id"]]


def test_a_run_is_cancelled_in_two_steps(double: OrchestraDouble, clock: Clock, run: Run) -> None:
    double.workspace.cancel_for = None
    path = f"{PREFIX}/pipeline_runs/{run.id}"
    assert ask(double, f"{path}/cancel", {"force": True})[0] == 400
    assert ask(double, f"{path}/cancel", method="POST")[0] == 204
    clock.go(seconds=59)
    assert ask(double, f"{path}/status")[1]["runStatus"] == "CANCELLING"
    assert {one["status"] for one in ask(double, f"{path}/task_runs")[1]["results"]} == {"CANCELLING"}
    assert ask(double, f"{path}/cancel", {"force": True})[0] == 400
    clock.go(seconds=1)
    assert ask(double, f"{path}/cancel", {"force": True})[0] == 204
    assert ask(double, f"{path}/status")[1]["runStatus"] == "CANCELLED"
    assert ask(double, f"{path}/cancel", method="POST")[0] == 400
    other = double.workspace.start(double.workspace.pipelines[run.pipeline], {})
    double.workspace.cancel_for = 2.0
    ask(double, f"{PREFIX}/pipeline_runs/{other.id}/cancel", method="POST")
    clock.go(seconds=2)
    assert got(double, f"/pipeline_runs/{other.id}/status")["runStatus"] == "CANCELLED"


def test_task_runs_are_filtered(double: OrchestraDouble, clock: Clock, run: Run) -> None:
    clock.go(seconds=20)
    first, second, tell = run.tasks
    assert ids(double, "/task_runs") == [tell.id, second.id]
    assert ids(double, "/task_runs?include_superseded=true") == [tell.id, second.id, first.id]
    assert ids(double, "/task_runs?integration=PYTHON,DBT_CORE") == [second.id]
    assert ids(double, "/task_runs?status=FAILED&include_superseded=true") == [first.id]
    assert ids(double, f"/task_runs?task_run_ids={tell.id}") == [tell.id]
    assert ids(double, f"/task_runs?pipeline_run_ids={_NO_ID}") == [tell.id, second.id]
    assert ids(double, f"/task_runs?pipeline_ids={_NO_ID}") == []
    assert got(double, f"/task_runs/{first.id}")["message"] == "lost"
    assert ids(double, f"/pipeline_runs/{run.id}/task_runs") == [second.id, tell.id]
    assert got(double, f"/pipeline_runs/{run.id}/task_runs")["pageSize"] == 10
    assert ask(double, f"{PREFIX}/pipeline_runs/{run.id}/task_runs?page_size=51")[0] == 422


# Logs, artifacts, metadata.


def part(double: OrchestraDouble, run: Run, task: str, name: str, wanted: str) -> tuple[int, bytes, Any, Any]:
    path = f"{double.base_url}/pipeline_runs/{run.id}/task_runs/{task}/logs/download?filename={quote(name)}"
    headers = {"Authorization": f"Bearer {double.key}", "Range": wanted}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(path, headers=headers), timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.read(), answer.headers["Content-Range"], answer.headers["X-File-Status"]


def test_a_log_grows_and_is_read_in_parts(double: OrchestraDouble, clock: Clock, run: Run) -> None:
    name, second = "2/dbt run", run.tasks[1].id
    clock.go(seconds=2)
    logs = f"/pipeline_runs/{run.id}/task_runs/{second}/logs"
    assert got(double, logs) == {
        "filenames": ["1/dbt run", name],
        "files": {
            "1/dbt run": {"attemptNumber": 1, "displayName": None},
            name: {"attemptNumber": 2, "displayName": None},
        },
    }
    assert part(double, run, second, name, "bytes=0-") == (206, b"one\n", "bytes 0-3/4", "WRITING")
    assert part(double, run, second, name, "bytes=4-") == (416, b"", "bytes */4", "WRITING")
    clock.go(seconds=5)
    assert part(double, run, second, name, "bytes=4-") == (206, b"two\n", "bytes 4-7/8", "WRITING")
    clock.go(seconds=5)
    assert part(double, run, second, name, "bytes=8-") == (416, b"", "bytes */8", "READY")
    assert part(double, run, second, name, "bytes=-3") == (206, b"wo\n", "bytes 5-7/8", "READY")
    assert part(double, run, second, name, "bytes=1-2") == (206, b"ne", "bytes 1-2/8", "READY")
    assert part(double, run, second, name, "lines=1-2") == (200, b"one\ntwo\n", None, "READY")
    assert ask(double, f"{PREFIX}{logs}/download?filename=2/other")[0] == 404
    assert ask(double, f"{PREFIX}{logs}/download")[0] == 422
    assert ask(double, f"{PREFIX}/pipeline_runs/{run.id}/task_runs/{_NO_ID}/logs")[0] == 404


def test_a_log_waits_for_its_task(double: OrchestraDouble, clock: Clock) -> None:
    double.workspace.add("load_orders", LOAD)
    double.workspace.start_after = 60.0
    waiting = double.workspace.start(double.workspace.pipelines[next(iter(double.workspace.pipelines))], {})
    waiting.tasks[0].starts = waiting.begins
    name = "1/python -m pull null"
    assert part(double, waiting, waiting.tasks[0].id, name, "bytes=0-") == (200, b"", None, "PENDING")


def test_artifacts_are_there_at_the_end(double: OrchestraDouble, clock: Clock, run: Run) -> None:
    clock.go(seconds=2)
    path = f"/pipeline_runs/{run.id}/task_runs/{run.tasks[1].id}/artifacts"
    assert got(double, path) == {"filenames": []}
    clock.go(seconds=10)
    assert got(double, path) == {"filenames": ["run_results.json"]}
    assert ask(double, f"{PREFIX}{path}/download?filename=run_results.json") == (200, {})
    assert ask(double, f"{PREFIX}{path}/download?filename=manifest.json")[0] == 404


def test_operations_and_assets_are_what_tasks_left(double: OrchestraDouble, clock: Clock, run: Run) -> None:
    clock.go(seconds=12)
    (found,) = got(double, "/operations")["results"]
    assert found["taskRunId"] == run.tasks[1].id, "an attempt that was superseded leaves none"
    (one,) = got(double, f"/operations?task_run_id={run.tasks[1].id}&operation_type=INGESTION&external_id=orders")[
        "results"
    ]
    assert (one["operationDuration"], one["rowsAffected"], one["operationStatus"]) == (4.0, 5, "SUCCEEDED")
    assert ids(double, "/operations?status=FAILED") == []
    assert ids(double, "/operations?integration=SNOWFLAKE") == []
    assert ids(double, "/operations?status=REUSED") == []
    assert ids(double, "/assets?asset_type=CHART", "assetName") == []
    for wrong in ("operation_type=LOAD", "status=FAILED,SKIPPED", "task_run_id=1"):
        assert ask(double, f"{PREFIX}/operations?{wrong}")[0] == 422
    assert ids(double, "/assets?asset_type=TABLE&integration=SNOWFLAKE", "assetName") == ["orders"]
    assert ids(double, "/assets?asset_type=VIEW", "assetName") == []
    assert ask(double, f"{PREFIX}/assets?time_from=2026-01-01T00:00:00Z")[0] == 422
    clock.go(days=7, seconds=1)
    assert ids(double, "/operations") == []
    assert len(got(double, "/assets")["results"]) == 1


def test_a_history_is_listed_in_windows(double: OrchestraDouble) -> None:
    runs = add_history(double.workspace, runs=250, days=14, seed=2)
    found = []
    for window in (
        "2025-12-18T12:00:00Z&time_to=2025-12-25T12:00:00Z",
        "2025-12-25T12:00:00Z&time_to=2026-01-01T12:00:00Z",
    ):
        page = 1
        while more := ids(double, f"/pipeline_runs?page_size=100&page={page}&time_from={window}"):
            found += more
            page += 1
    assert sorted(found) == sorted(run.id for run in runs)


def test_objects_are_as_the_reference_has_them(double: OrchestraDouble, clock: Clock, run: Run) -> None:
    add_history(double.workspace, runs=20, days=5, seed=1)
    double.workspace.connect("SNOWFLAKE", "warehouse")
    for moment in (0, 1, 15):
        clock.go(seconds=moment)
        for name in REFERENCE:
            found = got(double, f"/{'integrations/' if name == 'connections' else ''}{name}")
            items = found if isinstance(found, list) else found["results"]
            assert items, name
            for item in items:
                assert wrong_with(name, item) == [], name


# The workspace.


def test_one_environment_is_the_default(double: OrchestraDouble) -> None:
    path = f"{PREFIX}/environments"
    double.workspace.environments.clear()
    values = {"REGION": {"type": "string", "value": "eu"}, "SIZE": {"type": "int", "value": 3}}
    status, first = ask(double, path, {"name": "One", "values": values})
    assert (status, first["defaultEnv"], first["values"]) == (201, True, values)
    second = ask(double, path, {"name": "Two", "values": {}})[1]
    assert second["defaultEnv"] is False
    assert ask(double, path, {"name": "Two", "values": {}})[0] == 409
    assert ask(double, path, {"name": "Three"})[1]["detail"][0]["loc"] == ["body", "values"]
    one, two = (f"{path}/{each['environmentId']}" for each in (first, second))
    assert ask(double, one, method="DELETE")[0] == 400
    whole = {"name": "Two", "defaultEnv": True, "values": {"ON": {"type": "bool", "value": True}}}
    assert ask(double, one, {**whole, "name": "One", "defaultEnv": False}, method="PATCH")[0] == 400
    assert ask(double, two, {"defaultEnv": True}, method="PATCH")[0] == 422
    status, changed = ask(double, two, whole, method="PATCH")
    assert (status, changed["defaultEnv"], set(changed["values"])) == (200, True, {"ON"})
    assert [each["defaultEnv"] for each in ask(double, path)[1]] == [False, True]
    assert "values" not in ask(double, path)[1][0]
    wrong = {**whole, "values": {"SIZE": {"type": "int", "value": "3"}}}
    assert ask(double, two, wrong, method="PATCH")[1]["detail"][0]["loc"] == ["body", "values", "SIZE", "value"]
    for gone in (one, two):
        assert ask(double, gone, method="DELETE")[0] == 204
    assert ask(double, one)[0] == 404


def test_connections_state_and_credentials(double: OrchestraDouble) -> None:
    here = double.workspace.connect("SNOWFLAKE", "warehouse")
    double.workspace.connect("SNOWFLAKE", "old", status="FAILED")
    assert got(double, "/integrations/connections?integration=SNOWFLAKE&authStatus=SUCCEEDED") == [here]
    assert ask(double, f"{PREFIX}/integrations/connections?authStatus=VALID")[0] == 422
    state = f"{PREFIX}/state/DBT_CORE"
    one = {"last_updated": "2026-01-01T00:00:00Z", "checksum": "a", "sources": {}}
    assert ask(double, state, {"state": {"m.a": one}}, method="PATCH") == (200, {"state": {"m.a": one}})
    ask(double, state, {"state": {"m.b": one}}, method="PATCH")
    assert ask(double, state) == (200, {"state": {"m.a": one, "m.b": one}})
    assert ask(double, state, {"state": {"m.a": {"checksum": "a"}}}, method="PATCH")[0] == 422
    assert set(got(double, "/compute_resources/azure/federated_credentials")) == {"subjectId", "audience"}


def test_a_login_may_cover_several_accounts(double: OrchestraDouble) -> None:
    second = Workspace(double.now, name="Second")
    double.logins["token"] = [double.workspace, second]
    status, answer = ask(double, _PIPELINES, key="token")
    assert (status, "covers several accounts" in answer["detail"]) == (400, True)
    assert ask(double, _PIPELINES, key="token", **{"X-Orchestra-Account-Id": second.account}) == (200, [])
    accounts = ask(double, "/public/v1/accounts", key="token")[1]
    assert [one["name"] for one in accounts] == ["First", "Second"]
    assert len(ask(double, "/public/v1/accounts")[1]) == 1
    assert ask(double, "/public/v1/accounts", key="no")[0] == 401


# The webhook.


def told(double: OrchestraDouble, kind: str, run: str, **more: Any) -> tuple[int, Any]:
    return ask(double, "/", {"event_type": kind, "task_run_id": run, "metadata": {}, **more})


def test_a_task_says_how_it_is_doing(double: OrchestraDouble, clock: Clock) -> None:
    open_end = {"tasks": {"pull": {"attempts": [{"seconds": None}]}}}
    pipeline = double.workspace.add("open", LOAD, script=Script.model_validate(open_end))
    run = double.workspace.start(pipeline, {})
    task = run.tasks[0]
    clock.go(hours=1)
    assert told(double, "UPDATE_STATUS", task.id, status="RUNNING", message="half")[0] == 200
    shown = got(double, f"/task_runs/{task.id}")
    assert (shown["status"], shown["message"]) == ("RUNNING", "half")
    for name, status, code in (("rows_2", 400, "INVALID_OUTPUT_NAME"), ("Rows", 200, None), ("rows", 200, None)):
        answer = told(double, "SET_OUTPUT", task.id, output_name=name, output_value=[1])
        assert (answer[0], answer[1].get("code")) == (status, code)
    big = told(double, "SET_OUTPUT", task.id, output_name="big", output_value="x" * 5_000_000)
    assert (big[0], big[1]["code"]) == (400, "OUTPUTS_TOO_LARGE")
    assert task.outputs == {"rows": [1]}
    assert told(double, "UPDATE_STATUS", task.id, status="QUEUED")[0] == 422
    assert told(double, "UPDATE_STATUS", task.id, status="SUCCEEDED")[0] == 200
    late = told(double, "SET_OUTPUT", task.id, output_name="late", output_value=1)
    assert (late[0], late[1]["code"]) == (400, "TASK_RUN_ENDED")
    assert told(double, "UPDATE_STATUS", task.id, status="FAILED")[0] == 400
    assert told(double, "LOG", task.id, log_name="orchestra.log", data="done\n")[0] == 200
    assert part(double, run, task.id, "1/orchestra.log", "bytes=0-") == (206, b"done\n", "bytes 0-4/5", "READY")
    clock.go(seconds=1)
    assert got(double, f"/pipeline_runs/{run.id}/status")["runStatus"] == "SUCCEEDED"
    assert len(double.events) == 5


def test_outputs_of_a_task_that_does_not_set_them_are_dropped(double: OrchestraDouble, clock: Clock, run: Run) -> None:
    clock.go(seconds=12)
    tell = run.tasks[2]
    assert told(double, "SET_OUTPUT", tell.id, output_name="a", output_value=1)[0] == 200
    assert tell.outputs == {}


def test_events_for_sensors_are_kept_for_a_week(double: OrchestraDouble, clock: Clock) -> None:
    event = {"event_type": "SENSOR_EVENT", "sensor_event_type": "arrived", "sensor_event": {"n": 1}}
    assert ask(double, "/", event) == (200, {"message": "Event stored"})
    clock.go(days=7, seconds=1)
    ask(double, "/", {**event, "sensor_event": {"n": 2}})
    assert [one["event"] for one in double.workspace.sensor_events] == [{"n": 2}]


def test_an_answer_can_be_late(double: OrchestraDouble, run: Run) -> None:
    double.fail("slow", f"/pipeline_runs/{run.id}/status", seconds=0.4, times=1)
    request = urllib.request.Request(f"{double.base_url}/pipeline_runs/{run.id}/status")
    request.add_header("Authorization", f"Bearer {double.key}")
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(request, timeout=0.1)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["id"] == run.id


def test_a_limit_says_when_to_come_again(double: OrchestraDouble, run: Run) -> None:
    double.fail(
        "status", "/assets", status=429, times=2, after=1, headers={"Retry-After": "3"}, body={"detail": "slow"}
    )
    codes = [ask(double, f"{PREFIX}/assets")[0] for _ in range(4)]
    assert codes == [200, 429, 429, 200]
