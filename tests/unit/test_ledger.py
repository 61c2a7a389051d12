"""What is done, durably."""

import asyncio
import signal
import subprocess
import sys
import threading

import anyio
import pytest

from runner.errors import DiskFull, LedgerDamaged
from runner.journal import Statement, delete, insert, update
from runner.ledger import Ledger, LedgerReader

RUN = {
    "run": "r1",
    "job": "shop",
    "source": "s",
    "destination": "d",
    "dataset": "raw",
    "command": "backfill",
    "state": "running",
    "started": "2024-01-01T00:00:00+00:00",
    "version": "0.1.0",
}


def chunk(number: int, table: str = "a.b", **more) -> Statement:
    return insert(
        "chunks",
        {
            "table_name": table,
            "id": f"c{number}",
            "position": number,
            "bounds": '{"key":["id",null,"7"]}',
            "rows_estimate": 1,
            "bytes_estimate": 1,
            "state": "planned",
            **more,
        },
    )


def table(name: str) -> Statement:
    return insert(
        "tables", {"name": name, "destination": name, "mode": "full", "digest": "x", "state": "planned", "plan": "{}"}
    )


def attempt(at: str) -> Statement:
    values = {"at": at, "table_name": "a", "attempt": 1, "wait": 0.5, "error": "E", "message": "m"}
    return insert("attempts", values)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "run" / "ledger.sqlite")
    yield opened
    if opened._thread.is_alive():
        opened.close()


async def test_what_is_written_is_read_while_it_is_open(ledger):
    await ledger.write(insert("run", RUN))
    with LedgerReader(ledger.path) as reader:
        record = reader.run()
        assert {key: record[key] for key in RUN} == RUN
        await ledger.write(update("run", {"run": "r1"}, state="finished", exit_code=0))
        assert reader.run()["state"] == "finished"


async def test_an_empty_ledger(ledger):
    with LedgerReader(ledger.path) as reader:
        assert reader.run() is None
        assert reader.tables() == reader.chunks() == reader.attempts() == []


async def test_order_of_what_is_read(ledger):
    await ledger.write(table("z"), table("a"), chunk(2), chunk(1), chunk(0, "other"), attempt("2"), attempt("1"))
    with LedgerReader(ledger.path) as reader:
        assert [row["name"] for row in reader.tables()] == ["z", "a"]
        assert [row["id"] for row in reader.chunks("a.b")] == ["c1", "c2"]
        assert len(reader.chunks()) == 3
        assert reader.chunks("a.b")[0]["bounds"] == {"key": ["id", None, "7"]}
        assert [row["at"] for row in reader.attempts()] == ["1", "2"]


async def test_statements(ledger):
    await ledger.write(chunk(1), chunk(2), chunk(1, state="spooled"))
    await ledger.write(update("chunks", {"table_name": "a.b", "id": "c2"}, state="loaded", rows=7))
    with LedgerReader(ledger.path) as reader:
        assert [(row["id"], row["state"], row["rows"]) for row in reader.chunks()] == [
            ("c1", "spooled", None),
            ("c2", "loaded", 7),
        ]
        await ledger.write(delete("chunks", table_name="a.b", id="c1"), chunk(9))
        assert [row["id"] for row in reader.chunks()] == ["c2", "c9"]


async def test_what_waits_is_committed_together(ledger):
    begun, go, traced = threading.Event(), threading.Event(), []

    def hold() -> int:
        begun.set()
        go.wait(10)
        return 1

    ledger._connection.create_function("hold", 0, hold)
    ledger._connection.set_trace_callback(traced.append)
    async with anyio.create_task_group() as group:
        group.start_soon(ledger.write, Statement("select hold()"))
        await anyio.to_thread.run_sync(begun.wait, 10)
        for number in range(100):
            group.start_soon(ledger.write, chunk(number))
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert [sql for sql in traced if sql == "commit"] == ["commit"] * 2
    with LedgerReader(ledger.path) as reader:
        assert len(reader.chunks()) == 100


async def test_statements_of_one_write_are_kept_together(ledger):
    with pytest.raises(DiskFull):
        await ledger.write(chunk(1), Statement("insert into nowhere values (1)"))
    with LedgerReader(ledger.path) as reader:
        assert reader.chunks() == []
    await ledger.write(chunk(2))


async def test_a_cancelled_write_is_finished_first(ledger):
    with anyio.CancelScope() as scope:
        scope.cancel()
        await ledger.write(chunk(1))
    with LedgerReader(ledger.path) as reader:
        assert len(reader.chunks()) == 1


async def test_it_outlives_the_process(tmp_path):
    path = tmp_path / "ledger.sqlite"
    program = (
        "import asyncio, os, signal, pathlib, sys\n"
        "from runner.journal import Statement\nfrom runner.ledger import Ledger\n"
        "async def main():\n"
        "    ledger = Ledger(pathlib.Path(sys.argv[1]))\n"
        "    await ledger.write(Statement(\"insert into attempts values ('1', 't', null, 1, 0.5, 'e', 'm')\"))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    ended = await anyio.run_process([sys.executable, "-c", program, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    with LedgerReader(path) as reader:
        assert len(reader.attempts()) == 1
    again = Ledger(path)
    await again.write(attempt("2"))
    again.close()
    with LedgerReader(path) as reader:
        assert len(reader.attempts()) == 2


async def test_commits_are_synchronous(ledger):
    assert ledger._connection.execute("pragma synchronous").fetchone() == (2,)
    assert ledger._connection.execute("pragma journal_mode").fetchone() == ("wal",)


async def test_close_writes_what_waits(ledger):
    futures = [asyncio.ensure_future(ledger.write(chunk(number))) for number in range(20)]
    await asyncio.sleep(0)
    await anyio.to_thread.run_sync(ledger.close)
    await asyncio.gather(*futures)
    with LedgerReader(ledger.path) as reader:
        assert len(reader.chunks()) == 20


def test_a_value_that_sqlite_cannot_keep_is_an_error_and_not_a_silence(tmp_path):
    """A statement whose values cannot be bound must not end the thread that everybody waits for."""
    ledger, ended = Ledger(tmp_path / "ledger.sqlite"), []

    async def main() -> None:
        try:
            await ledger.write(chunk(1, rows=2**70))
        except Exception as error:
            ended.append(type(error).__name__)
        await ledger.write(chunk(2))
        ended.append("written")

    previous, threading.excepthook = threading.excepthook, lambda _: None
    try:
        thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
        thread.start()
        thread.join(5)
    finally:
        threading.excepthook = previous
    assert len(ended) == 2, "write() never returned"
    assert ended[1] == "written"


@pytest.mark.parametrize("content", [b"this is not a database, it is a text\n" * 100, b"\x00" * 4096])
def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(LedgerDamaged, match=str(path)):
        LedgerReader(path)


def test_a_damaged_file_is_not_written_to(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is not a database, it is a text\n" * 100)
    with pytest.raises(LedgerDamaged, match=str(path)):
        Ledger(path)
    assert path.read_bytes().startswith(b"this is not")


def test_a_ledger_that_is_not_there(tmp_path):
    with pytest.raises(LedgerDamaged):
        LedgerReader(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize("folder", ["50%25 done", "a#b", "what?mode=rw", "größe 1"])
async def test_a_folder_of_any_name(tmp_path, folder):
    ledger = Ledger(tmp_path / folder / "ledger.sqlite")
    await ledger.write(insert("run", RUN))
    ledger.close()
    with LedgerReader(ledger.path) as reader:
        assert reader.run()["run"] == "r1"


def test_the_modules_it_needs_are_imported_by_itself():
    program = "import runner.journal, anyio; anyio.lowlevel.current_token; anyio.from_thread.run_sync"
    subprocess.run([sys.executable, "-c", program], check=True)
