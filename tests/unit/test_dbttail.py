"""The log of a dbt task while it grows: all files, each thing once, until the task is over."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestra.api.models import PipelineRun, TaskRun
from orchestra.api.workspace import Workspace
from orchestra.dbt.tail import DbtTail
from runner.errors import RequestRefused, RunnerError, SourceDown, UsageError
from runner.testing.clock import ManualClock
from sensors.alert import Alert

GOLDEN = Path(__file__).parent / "golden" / "dbt"
TESTS = (GOLDEN / "test.jsonl").read_bytes()
TASK_RUN = "11111111-1111-4111-8111-111111111111"
RUN = "5d1c2a52-0f8e-4d3c-9a57-6d6f0f0f0001"
LINK = "https://app.getorchestra.io/pipeline-runs/" + RUN + "/lineage"


def line(node: str, invocation: str = "i1", status: str = "fail") -> bytes:
    info = {"name": "LogTestResult", "level": "error", "invocation_id": invocation}
    data = {"status": status, "num_failures": 3, "node_info": {"unique_id": f"test.shop.{node}"}}
    return json.dumps({"info": info, "data": data}).encode() + b"\n"


class Orchestra:
    """A task run whose files grow with each look, as far as the tail asks for it.

    Attributes:
        steps: What happens before each look at the task's status.
        tasks, earlier: Ids of the newest attempt, and of those before it.
        owner: Which attempt a file belongs to.
        reads: Each read: file, first byte, bytes.
    """

    def __init__(self, *steps: Callable[[Orchestra], None]) -> None:
        self.clock = ManualClock(auto=True)
        self.workspace = Workspace.of(api_key="sk-1234567890", environ={})
        self.steps = list(steps)
        self.files: dict[str, bytes] = {}
        self.kept: dict[str, bytes] = {}
        self.status = "RUNNING"
        self.run_status = "RUNNING"
        self.tasks = [TASK_RUN]
        self.earlier: list[str] = []
        self.owner: dict[str, str] = {}
        self.fail: RunnerError | None = None
        self.reads: list[tuple[str, int, int]] = []

    async def definition(self, pipeline: str, **_: object) -> dict[str, Any]:
        return {"pipeline": {"build": {"tasks": {"dbt": {}}}}}

    async def task_runs_of(self, run: str) -> AsyncGenerator[list[TaskRun], None]:
        if self.steps:
            self.steps.pop(0)(self)
        if self.fail is not None:
            failed, self.fail = self.fail, None
            raise failed
        found = [{"id": one, "taskId": "dbt", "status": self.status, "pipelineRunId": run} for one in self.tasks]
        yield [TaskRun.model_validate({"id": "other", "taskId": "load", "status": "SUCCEEDED"})]
        yield [TaskRun.model_validate(one) for one in found]

    async def task_runs(
        self, *, superseded: bool, task_runs: Sequence[str] = (), **_: Any
    ) -> AsyncGenerator[list[TaskRun], None]:
        assert superseded
        for one in (*self.earlier, *self.tasks):
            if one in task_runs or not task_runs:
                found = {"id": one, "taskId": "dbt", "status": "FAILED", "pipelineRunId": RUN}
                yield [TaskRun.model_validate(found)]

    async def run(self, run: str) -> PipelineRun | None:
        found = {"id": run, "runStatus": self.run_status, "createdAt": "2024-01-01T00:00:00+00:00"}
        return PipelineRun.model_validate(found) if run == RUN else None

    async def logs(self, run: str, task_run: str) -> list[str]:
        return [name for name in self.files if self.owner.get(name, TASK_RUN) == task_run]

    async def log(
        self, run: str, task_run: str, filename: str, *, start: int, follow: bool
    ) -> AsyncGenerator[bytes, None]:
        assert follow == (self.status != "RUNNING" or task_run in self.earlier)
        data = self.files[filename][start:]
        self.reads.append((filename, start, len(data)))
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]

    async def artifacts(self, run: str, task_run: str) -> list[str]:
        return list(self.kept)

    async def artifact(self, run: str, task_run: str, filename: str) -> bytes:
        return self.kept[filename]


def grow(name: str, data: bytes, status: str = "RUNNING") -> Callable[[Orchestra], None]:
    def step(orchestra: Orchestra) -> None:
        orchestra.files[name] = orchestra.files.get(name, b"") + data
        orchestra.status = status

    return step


def tail(orchestra: Any, task: str = TASK_RUN, run: str = RUN) -> tuple[DbtTail, list[list[Alert]], list[str]]:
    told: list[list[Alert]] = []
    warned: list[str] = []

    async def tell(alerts: list[Alert]) -> None:
        told.append(alerts)

    return DbtTail(orchestra, task, run, tell, warned.append), told, warned


async def test_a_log_that_grows_is_told_at_once_and_read_once() -> None:
    cut = TESTS.index(b"unique_orders_id", TESTS.index(b'"num_failures": 1')) + 5
    orchestra = Orchestra(
        grow("1/dbt test", TESTS[:1000]), grow("1/dbt test", TESTS[1000:cut]), grow("1/dbt test", TESTS[cut:], "FAILED")
    )
    following, told, _ = tail(orchestra)
    assert await following.follow(3600)
    assert len(told) == 2
    nodes = [alert.facts["node"] for alerts in told for alert in alerts]
    assert len(nodes) == len(set(nodes)) == 6
    assert sum(size for _, _, size in orchestra.reads) == len(TESTS)
    assert [start for _, start, size in orchestra.reads if size] == [0, 1000, cut]
    first = told[0][0]
    assert (first.url, first.facts["command"], first.facts["attempt"]) == (LINK, "dbt test", "1")
    assert following.structured == 29


async def test_commands_and_attempts_that_appear_meanwhile_are_read_too() -> None:
    orchestra = Orchestra(
        grow("1/dbt run", line("a") + b"plain text\n"),
        grow("1/dbt test", line("a") + line("b")),
        lambda _: None,
        grow("2/dbt test", line("b", "i2") + line("b", "i2")),
        grow("10/odd", line("c", "i3").rstrip(), "FAILED"),
    )
    following, told, _ = tail(orchestra)
    assert await following.follow(3600)
    found = [(one.facts["node"][-1], one.facts["attempt"], one.facts["command"]) for alerts in told for one in alerts]
    assert found == [("a", "1", "dbt run"), ("b", "1", "dbt test"), ("b", "2", "dbt test"), ("c", "10", "odd")]


async def test_an_attempt_with_an_id_of_its_own_is_waited_for_after_one_that_failed() -> None:
    second = "22222222-2222-4222-8222-222222222222"

    def retried(orchestra: Orchestra) -> None:
        orchestra.earlier, orchestra.tasks, orchestra.status = [TASK_RUN], [second], "RUNNING"
        orchestra.files |= {"1/x": line("a") + line("late"), "2/x": line("a", "i2")}
        orchestra.owner["2/x"] = second

    def ended(orchestra: Orchestra) -> None:
        orchestra.status = "SUCCEEDED"

    orchestra = Orchestra(grow("1/x", line("a"), "FAILED"), lambda _: None, retried, ended)
    following, told, _ = tail(orchestra)
    assert await following.follow(3600)
    found = [(one.facts["node"].rpartition(".")[2], one.facts["attempt"]) for alerts in told for one in alerts]
    assert found == [("a", "1"), ("late", "1"), ("a", "2")]
    assert orchestra.clock.monotonic() < following.linger

    # Afterwards each attempt is found, whichever id is given.
    for name in (TASK_RUN, second, "dbt"):
        orchestra.reads.clear()
        following, told, _ = tail(orchestra, name)
        assert await following.look()
        assert len(told) == 2
        assert [name for name, _, _ in orchestra.reads] == ["1/x", "2/x"]


@pytest.mark.parametrize(("run_status", "longest"), [("RUNNING", 65), ("FAILED", 5)])
async def test_another_attempt_is_not_waited_for_for_ever(run_status: str, longest: float) -> None:
    orchestra = Orchestra(grow("1/x", line("a"), "FAILED"))
    orchestra.run_status = run_status
    following, told, _ = tail(orchestra)
    assert await following.follow(3600)
    assert len(told) == 1
    assert longest - 5 <= orchestra.clock.monotonic() <= longest


async def test_what_passes_is_waited_out_and_what_does_not_is_raised() -> None:
    def outage(orchestra: Orchestra) -> None:
        orchestra.fail = SourceDown("no answer")

    following, told, warned = tail(Orchestra(outage, grow("1/x", line("a"), "FAILED")))
    assert await following.follow(3600)
    assert (len(told), warned) == (1, ["no answer"])

    def refused(orchestra: Orchestra) -> None:
        orchestra.fail = RequestRefused("no")

    following, _, _ = tail(Orchestra(refused))
    with pytest.raises(RequestRefused):
        await following.follow(3600)


async def test_it_ends_in_time() -> None:
    class Hangs(Orchestra):
        async def logs(self, run: str, task_run: str) -> list[str]:
            import anyio

            await anyio.sleep_forever()
            raise AssertionError

    following, told, _ = tail(Hangs())
    assert not await following.follow(0.01)
    assert told == []


async def test_a_task_is_waited_for_by_its_name_and_may_never_run() -> None:
    def begun(orchestra: Orchestra) -> None:
        orchestra.tasks = [TASK_RUN]
        orchestra.files["1/x"] = line("a")
        orchestra.status = "FAILED"

    orchestra = Orchestra(lambda _: None, begun)
    orchestra.tasks = []
    following, told, _ = tail(orchestra, "dbt")
    assert await following.follow(3600)
    assert len(told) == 1

    orchestra = Orchestra()
    orchestra.tasks, orchestra.run_status = [], "SUCCEEDED"
    following, told, warned = tail(orchestra, "dbt")
    assert await following.follow(3600)
    assert (told, len(warned)) == ([], 1)


async def test_the_run_of_a_task_run_is_found() -> None:
    following, told, _ = tail(Orchestra(grow("1/x", line("a"), "FAILED")), run="")
    assert await following.look()
    assert following.run == RUN
    assert told[0][0].url == LINK


@pytest.mark.parametrize(
    ("task", "run", "error", "says"),
    [
        ("dbt", "", UsageError, "--run"),
        ("22222222-2222-4222-8222-222222222222", "", RequestRefused, "--run finds an older one"),
        ("dbt", "run-2", RequestRefused, "Check --run"),
    ],
)
async def test_what_is_not_there(task: str, run: str, error: type[RunnerError], says: str) -> None:
    orchestra = Orchestra()
    orchestra.tasks = []
    following, _, _ = tail(orchestra, task, run)
    with pytest.raises(error) as caught:
        await following.look()
    assert says in caught.value.advice


async def test_artifacts() -> None:
    orchestra = Orchestra()
    following, told, _ = tail(orchestra, "dbt")
    assert not await following.artifacts()
    orchestra.kept = {
        "target/run_results.json": (GOLDEN / "test_results.json").read_bytes(),
        "target/manifest.json": (GOLDEN / "manifest.json").read_bytes(),
        "target/graph.gpickle": b"\x80",
    }
    assert await following.artifacts()
    assert len(told[0]) == 6
    assert {alert.channels for alert in told[0]} == {("data-quality",), ("data-quality", "shop-data"), ()}
