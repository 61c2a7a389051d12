"""The client on the double of Orchestra's API: what is made, run, waited for, followed and read back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestra.api.lookup import find_run
from orchestra.api.models import Start
from orchestra.api.records import DbtAsset, DbtState, EnvironmentValue
from orchestra.api.workspace import Workspace
from orchestra.client import OrchestraClient
from orchestra.testing import OrchestraDouble
from orchestra.testing.script import Script
from orchestra.testing.state import Run
from runner.errors import DeliveryRefused, OutcomeUnknown, PermissionMissing, PollTimedOut, RequestRefused
from runner.job import Limits
from runner.limits import SourceLimits
from runner.testing.clock import ManualClock

DEFINITION: dict[str, Any] = {
    "version": "v1",
    "name": "Load orders",
    "inputs": {"run_key": {"type": "string", "default": ""}},
    "pipeline": {
        "load": {
            "tasks": {
                "pull": {
                    "integration": "PYTHON",
                    "integration_job": "PYTHON_EXECUTE_SCRIPT",
                    "name": "Pull",
                    "parameters": {"command": "pull ${{ inputs.run_key }}"},
                    "depends_on": [],
                }
            },
            "depends_on": [],
            "name": "Load",
        }
    },
}
LINES = [{"text": f"line {number}", "after": 2.0 * number} for number in range(10)]
SCRIPT = {
    "tasks": {
        "pull": {
            "attempts": [{"seconds": 20}],
            "log": {"dbt run": LINES},
            "artifacts": {"run_results.json": '{"results": []}'},
            "operations": [{"name": "orders", "type": "INGESTION", "rows": 5}],
            "assets": [{"name": "orders", "integration": "SNOWFLAKE"}],
        }
    }
}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(auto=True)


@pytest.fixture
def double(clock: ManualClock) -> Iterator[OrchestraDouble]:
    with OrchestraDouble(now=clock.now) as server:
        server.workspace.start_after = 0.0
        yield server


@contextlib.asynccontextmanager
async def opened(double: OrchestraDouble, clock: ManualClock, **more: Any) -> AsyncIterator[OrchestraClient]:
    workspace = Workspace.of(api_key=double.key, base_url=double.base_url, environ={})
    async with OrchestraClient(workspace, clock, SourceLimits.of(Limits(), clock), **more) as client:
        yield client


def started(double: OrchestraDouble) -> Run:
    pipeline = double.workspace.add("load_orders", DEFINITION, script=Script.model_validate(SCRIPT))
    return double.workspace.start(pipeline, {"run_key": "k1"})


async def test_a_run_is_waited_for_through_everything(double: OrchestraDouble, clock: ManualClock) -> None:
    started(double)
    seen: list[str] = []
    async with opened(double, clock) as client:
        run = (await client.start("load_orders", Start(run_inputs={"run_key": "k2"}))).pipeline_run_id
        double.fail("status", f"/pipeline_runs/{run}", status=502, times=6, after=2)
        double.fail("reset", f"/pipeline_runs/{run}", after=2)
        double.fail("status", f"/pipeline_runs/{run}", status=429, headers={"Retry-After": "5"}, after=3)
        found = await client.wait(run, deadline=600, seen=lambda one: seen.append(one.run_status))
        assert (found.run_status, found.over) == ("SUCCEEDED", True)
        assert "RUNNING" in seen
        assert len(set(seen)) <= 3
        with pytest.raises(RequestRefused, match="There is no run"):
            await client.wait("00000000-0000-4000-8000-000000000000")


async def test_a_cancelled_run_ends_as_such(double: OrchestraDouble, clock: ManualClock) -> None:
    run = started(double)
    async with opened(double, clock) as client:
        with pytest.raises(PollTimedOut, match="RUNNING"):
            await client.wait(run.id, deadline=3)
        # Its first answer is lost, and the second one says that it has been done.
        double.fail("reset", "/cancel", done=True)
        await client.cancel(run.id)
        assert (await client.wait(run.id, deadline=300)).run_status == "CANCELLED"


@pytest.mark.parametrize("single", [True, False], ids=["single run", "status only"])
async def test_a_run_is_read_on_both_kinds_of_servers(
    double: OrchestraDouble, clock: ManualClock, single: bool
) -> None:
    double.single = single
    run = started(double)
    async with opened(double, clock) as client:
        found = await client.run(run.id)
        assert found is not None
        assert (found.id, found.pipeline_name) == (run.id, "Load orders")


async def test_a_log_is_followed_while_it_is_written(double: OrchestraDouble, clock: ManualClock) -> None:
    run = started(double)
    (task,) = run.task_runs(clock.now())
    whole = "".join(f"{line['text']}\n" for line in LINES).encode()
    found, parts = b"", 0
    double.fail("cut", "/logs/download", after=2)
    double.fail("status", "/logs/download", status=503, after=4, times=5)
    async with opened(double, clock) as client:
        async with contextlib.aclosing(client.log(run.id, task.id, "1/dbt run", deadline=300)) as log:
            async for part in log:
                found, parts = found + part, parts + 1
        assert found == whole
        assert parts > 3
        assert await client.logs(run.id, task.id) == ["1/dbt run"]
        with pytest.raises(RequestRefused, match="has no log '1/dbt rn'") as caught:
            async with contextlib.aclosing(client.log(run.id, task.id, "1/dbt rn")) as log:
                async for _ in log:
                    pytest.fail("there is none")
        assert "Did you mean '1/dbt run'" in caught.value.advice
        assert await client.artifacts(run.id, task.id) == ["run_results.json"]
        assert await client.artifact(run.id, task.id, "run_results.json") == b'{"results": []}'


async def test_what_a_run_did_is_listed(double: OrchestraDouble, clock: ManualClock) -> None:
    run = started(double)
    await clock.sleep(60)
    when: dict[str, Any] = {"time_from": clock.now() - timedelta(hours=1), "time_to": clock.now()}
    async with opened(double, clock) as client:
        tasks = [one async for page in client.task_runs(**when, integrations=["PYTHON"]) for one in page]
        operations = [
            one
            async for page in client.operations(**when, operation_types=["INGESTION"], task_run=tasks[0].id)
            for one in page
        ]
        assets = [one async for page in client.assets(integration="SNOWFLAKE") for one in page]
    assert [(one.pipeline_run_id, one.task_id, one.over) for one in tasks] == [(run.id, "pull", True)]
    assert [(one.operation_name, one.rows_affected) for one in operations] == [("orders", 5)]
    assert [one.asset_name for one in assets] == ["orders"]


@pytest.mark.parametrize("path", ["pipeline/data", "pipelines/data"])
async def test_a_pipeline_is_made_changed_and_deleted(double: OrchestraDouble, clock: ManualClock, path: str) -> None:
    double.data_paths = (path,)
    async with opened(double, clock) as client:
        made = await client.create_pipeline(DEFINITION, alias="made")
        with pytest.raises(DeliveryRefused, match="made"):
            await client.create_pipeline(DEFINITION, alias="made")
        changed = await client.update_pipeline("made", {**DEFINITION, "name": "Load all orders"})
        assert (changed.id, changed.name) == (made.id, "Load all orders")
        assert (await client.definition(made.id) or {})["name"] == "Load all orders"
        found = [one async for page in client.pipelines(name="ALL") for one in page]
        assert [one.alias for one in found] == ["made"]
        with pytest.raises(DeliveryRefused):
            await client.create_pipeline({"version": "v1"}, alias="broken")
        assert await client.check_definition(DEFINITION) == []
        problems = await client.check_definition({**DEFINITION, "pipelin": 1})
        assert [one.loc[-1] for one in problems] == ["pipelin"]
        git: dict[str, Any] = {"repository": "shop/data", "storage_provider": "GITHUB", "default_branch": "main"}
        await client.update_storage("made", path="orchestra/load.yml", **git)
        with pytest.raises(RequestRefused, match="git"):
            await client.update_pipeline("made", DEFINITION)
        double.keys_delete = False
        with pytest.raises(PermissionMissing, match="signed in"):
            await client.delete_pipeline("made")
        double.keys_delete = True
        # Its first answer is lost: that it is gone at the second is no mistake.
        double.fail("reset", "/pipelines", method="DELETE", done=True)
        await client.delete_pipeline("made")
        assert await client.pipeline("made") is None


async def test_a_lost_answer_to_a_creation_is_looked_up(double: OrchestraDouble, clock: ManualClock) -> None:
    double.fail("reset", "/pipelines", method="POST", done=True)
    async with opened(double, clock) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.create_pipeline(DEFINITION, alias="made")
        assert "look the pipeline up by its alias" in caught.value.advice
        assert await client.pipeline("made") is not None
    assert double.count("/pipelines") == 1


async def test_a_pipeline_is_imported_from_git(double: OrchestraDouble, clock: ManualClock, tmp_path: Path) -> None:
    (tmp_path / "load.yml").write_text(yaml.safe_dump(DEFINITION, sort_keys=False), "utf-8")
    double.workspace.folder = tmp_path
    async with opened(double, clock) as client:
        found = await client.import_pipeline(
            storage_provider="GITHUB",
            repository="shop/data",
            default_branch="main",
            yaml_path="load.yml",
            alias="imported",
        )
        assert (found.alias, found.storage_provider) == ("imported", "GITHUB")


async def test_environments_and_the_rest(double: OrchestraDouble, clock: ManualClock) -> None:
    values = {"DAYS": EnvironmentValue(type="int", value=3), "ON": EnvironmentValue(type="bool", value=True)}
    async with opened(double, clock) as client:
        made = await client.create_environment("Canary", values)
        found = await client.environment(made.environment_id)
        assert found is not None
        assert (found.name, found.values) == ("Canary", values)
        only = {"DAYS": EnvironmentValue(type="int", value=4)}
        changed = await client.update_environment(made.environment_id, "Canary", only, default=False)
        assert changed.values == only, "values are replaced as a whole"
        assert "Canary" in [one.name for one in await client.environments()]
        assert await client.delete_environment(made.environment_id)
        assert await client.environment(made.environment_id) is None
        state = DbtState(state={"db.s.orders": DbtAsset(last_updated=clock.now(), checksum="c")})
        await client.update_dbt_state(state)
        assert (await client.dbt_state()).state["db.s.orders"].checksum == "c"
        assert isinstance(await client.connections(), list)
        assert [one.id for one in await client.accounts()] == [double.workspace.account]


async def test_a_lost_start_is_found(double: OrchestraDouble, clock: ManualClock) -> None:
    started(double)
    since = clock.now()
    async with opened(double, clock) as client:
        double.fail("reset", "/start", done=True)
        with pytest.raises(OutcomeUnknown):
            await client.start("load_orders", Start(run_inputs={"run_key": "k9"}))
        await clock.sleep(30)
        fate = await find_run(client, "load_orders", input="run_key", value="k9", since=since)
        assert fate.run is not None
        assert double.workspace.runs[fate.run].inputs == {"run_key": "k9"}
        nothing = await find_run(client, "load_orders", input="run_key", value="k10", since=since)
        assert (nothing.run, nothing.unclear) == (None, ())
