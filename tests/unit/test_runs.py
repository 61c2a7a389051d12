"""The state folder: one folder a run, one process a job."""

import contextlib
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.errors import Busy, UsageError
from runner.journal import insert
from runner.ledger import Ledger
from runner.runs import RunFolder, StateFolder, is_unfinished, project_root, state_dir

NOW = datetime(2024, 3, 1, 12, 0, 5, tzinfo=UTC)


@pytest.fixture
def state(tmp_path):
    folder = StateFolder(tmp_path / ".runner")
    folder.create()
    return folder


def make_run(state: StateFolder, at: datetime, suffix: str, /, **more: str) -> RunFolder:
    folder = state.new(at, suffix)
    ledger = Ledger(folder.ledger)
    record = {
        "run": folder.run,
        "job": "shop",
        "source": "s",
        "destination": "d",
        "dataset": "raw",
        "command": "backfill",
        "state": "finished",
        "started": at.isoformat(),
        "version": "1",
        **more,
    }
    ledger._commit([([insert("run", record)], _Ignored())])
    ledger.close()
    return folder


class _Ignored:
    def set_result(self, result) -> None: ...

    def set_exception(self, error) -> None:
        raise error


def test_the_project_is_the_nearest_folder_with_a_mark(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").touch()
    (deep / "job.yml").touch()
    assert project_root(deep / "job.yml") == project_root(deep) == tmp_path / "a"
    (deep / ".git").mkdir()
    assert project_root(deep / "job.yml") == deep


def test_where_the_state_lies(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    assert state_dir(tmp_path, None, {}) == tmp_path / ".runner"
    assert state_dir(tmp_path, None, {"RUNNER_STATE_DIR": "/var/x"}) == Path("/var/x")
    assert state_dir(tmp_path, None, {"RUNNER_STATE_DIR": ""}) == tmp_path / ".runner"
    assert state_dir(tmp_path, Path("/asked"), {"RUNNER_STATE_DIR": "/var/x"}) == Path("/asked")
    assert state_dir(tmp_path, Path("near"), {}).is_absolute()


def test_the_folder_is_private(state):
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(state.new(NOW, "ab").path.stat().st_mode) == 0o700
    state.create()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        StateFolder(tmp_path / "file" / ".runner").create()


def test_a_run_is_named_by_its_time(state):
    folder = state.new(NOW, "abcd")
    assert folder.run == "20240301T120005000-abcd"
    names = [folder.ledger, folder.spool, folder.plan, folder.report, folder.events]
    assert {path.parent for path in names} == {folder.path}
    with pytest.raises(FileExistsError):
        state.new(NOW, "abcd")


def test_runs_newest_first_and_only_with_a_ledger(state):
    assert StateFolder(state.path / "none").runs() == []
    older = make_run(state, NOW - timedelta(hours=1), "a")
    newer = make_run(state, NOW, "a")
    state.new(NOW + timedelta(hours=1), "empty")
    assert state.runs() == [newer, older]


def test_find(state):
    older = make_run(state, NOW - timedelta(days=1), "a")
    newer = make_run(state, NOW, "a")
    assert state.find("latest") == newer
    assert state.find(older.run) == older
    assert state.find("20240229") == older
    with pytest.raises(UsageError, match="matches several runs"):
        state.find("2024")
    with pytest.raises(UsageError, match="is not a run"):
        state.find("1999")


def test_latest_without_any_run(state):
    with pytest.raises(UsageError, match="'latest' is not a run"):
        state.find("latest")


def test_newest_of_the_same_job_source_and_dataset(state):
    same = {"job": "shop", "source": "s", "dataset": "raw", "destination": "d"}
    assert state.newest(**same) is None
    make_run(state, NOW, "a")
    wanted = make_run(state, NOW + timedelta(hours=1), "b", state="running")
    for hours, key in enumerate(same, 2):
        make_run(state, NOW + timedelta(hours=hours), "c", **{key: "other"})
    folder, record = state.newest(**same)
    assert folder == wanted
    assert record["state"] == "running"


def test_a_damaged_run_is_passed_over(state):
    good = make_run(state, NOW, "a")
    bad = state.new(NOW + timedelta(hours=1), "b")
    bad.ledger.write_bytes(b"not a database at all, really not" * 50)
    assert bad.record() is None
    assert state.newest(job="shop")[0] == good
    state.prune(NOW + timedelta(days=100))
    assert state.runs() == [bad]


def test_prune_deletes_what_ended_long_ago(state):
    long_ago = NOW - timedelta(days=31)
    make_run(state, long_ago, "finished")
    make_run(state, long_ago, "failed", state="failed")
    unfinished = make_run(state, long_ago, "running", state="running")
    recent = make_run(state, NOW - timedelta(days=29), "recent")
    state.prune(NOW)
    assert state.runs() == [recent, unfinished]


@pytest.mark.parametrize(
    ("word", "unfinished"), [("finished", False), ("failed", False), ("running", True), ("interrupted", True)]
)
def test_is_unfinished(word, unfinished):
    assert is_unfinished({"state": word}) is unfinished


def try_to_own(state: StateFolder, job: str) -> subprocess.CompletedProcess:
    program = (
        "import sys, pathlib\n"
        "from runner.runs import StateFolder\n"
        "from runner.errors import Busy\n"
        "try:\n"
        "    with StateFolder(pathlib.Path(sys.argv[1])).own(sys.argv[2]):\n"
        "        print('owned')\n"
        "except Busy as busy:\n"
        "    print(busy)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(state.path), job], capture_output=True, text=True, check=True, timeout=60
    )


def test_one_process_owns_a_job(state):
    with state.own("shop"):
        told = try_to_own(state, "shop").stdout
        assert "already running" in told
        assert f"pid {os.getpid()}" in told
        assert try_to_own(state, "other").stdout == "owned\n"
    assert try_to_own(state, "shop").stdout == "owned\n"


def test_the_second_owner_is_refused_in_one_process_too(state):
    with state.own("shop"), pytest.raises(Busy) as busy:
        with state.own("shop"):
            pass
    assert busy.value.exit_code == 3
    assert busy.value.context["pid"] == str(os.getpid())


def test_a_job_is_given_back_after_a_failure(state):
    with pytest.raises(RuntimeError):
        with state.own("shop"):
            raise RuntimeError
    with state.own("shop"):
        pass


def test_names_of_any_kind_stay_apart(state):
    names = ["a/b", "a_b", "a b", "../escape", "x" * 300, "x" * 301, "größe", "é" * 100]
    with contextlib.ExitStack() as held:
        for name in names:
            held.enter_context(state.own(name))
        assert len(list((state.path / "jobs").iterdir())) == len(names)
    assert sorted(path.name for path in state.path.iterdir()) == ["jobs", "runs"]
