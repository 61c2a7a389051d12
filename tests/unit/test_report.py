"""The report opens from disk, tells the truth about how the run ended, and is safe to show around."""

import json
import re
import stat
import time
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anyio
import pytest

from runner import secrets
from runner.errors import LedgerDamaged
from runner.journal import insert
from runner.ledger import Ledger
from runner.report import render, write_report
from runner.runs import RunFolder

START = datetime(2026, 11, 22, 22, 50, tzinfo=UTC)
VOID = {"meta", "link", "br", "hr", "img", "input", "base", "col", "source", "wbr"}
HOSTILE = "shop.<script>alert('x')</script>\"&\u202e</script><!--"


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def run(**changes: Any) -> dict[str, Any]:
    return {
        "run": "20261122T225000-ab12", "job": "demo", "source": "shop", "destination": "duckdb /tmp/w.duckdb",
        "dataset": "raw", "environment": None, "command": "backfill", "state": "finished", "started": at(0),
        "finished": at(10), "exit_code": 0, "version": "0.1.0", **changes,
    }  # fmt: skip


def table(name: str, state: str = "published", error: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    ended = state in ("published", "failed")
    return {
        "name": name, "destination": name.replace(".", "__"), "mode": "full", "digest": "", "state": state,
        "plan": "{}", "mark": None, "load_id": None, "bytes": 1,
        "rows": 1000 if state == "published" else None,
        "epoch": 1, "started": None if state == "planned" else at(1),
        "finished": at(4) if ended else None, "resume_at": None,
        "error": json.dumps(error) if error else None,
        **changes,
    }  # fmt: skip


def chunk(name: str, state: str = "verified", **changes: Any) -> dict[str, Any]:
    return {
        "table_name": name, "id": "c0", "position": 0, "bounds": {}, "storage": None, "rows_estimate": 1,
        "bytes_estimate": 1, "state": state, "epoch": 1, "token": None, "rows": 1000, "bytes": 2048,
        "files": None,
        "seconds": 1.0, **changes,
    }  # fmt: skip


def event(when: float, action: str, /, **data: Any) -> dict[str, Any]:
    return {"at": at(when), "level": "info", "action": action, **data}


def story(name: str, slot: int = 1, begin: float = 1, end: float = 4, how: str = "published") -> list[dict[str, Any]]:
    return [
        event(begin, "table_started", table=name, slot=slot, mode="full", chunks=1, rows=1000),
        event(end - 0.5, "chunk_spooled", table=name, chunk="c0", rows=1000, bytes=2048, seconds=1.0),
        event(end, f"table_{how}", table=name, rows=1000, seconds=end - begin),
    ]


BEGIN = [
    event(0, "epoch_began", epoch=1, consistent=True, lsn="0/16B3748", reason="first read"),
    event(0.5, "run_started", run="r", job="demo", tables=1, rows=1, bytes=1, resumed=False, consistent=True),
]


class Page(HTMLParser):
    """Checks that every tag is closed by its own end tag, and collects what the page holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def count(self, tag: str) -> int:
        return sum(one == tag for one, _ in self.tags)

    def bars(self) -> list[str]:
        """Return the classes of the bars of the timeline, without those of its legend."""
        return [str(data["class"]) for tag, data in self.tags
                if tag == "rect" and str(data.get("class")).startswith("b ") and "x" in data]  # fmt: skip


def page(*args: Any) -> Page:
    return Page(render(*args))


def test_a_complete_run_says_so_with_its_numbers() -> None:
    tables = [table("shop.a"), table("shop.b", mark="2026-01-01")]
    events = [*BEGIN, *story("shop.a"), *story("shop.b", 2), event(10, "run_finished", exit_code=0)]
    found = page(run(), tables, [chunk("shop.a"), chunk("shop.b")], [], events)
    assert "Complete" in found.text
    assert "All 2 tables published." in found.text
    assert "2 of 2 verified" in found.text
    assert "Consistent: every chunk was read from one picture of the source." in found.text
    assert "What went wrong" not in found.text
    assert found.bars() == ["b ok", "b ok"]
    assert "2026-01-01" in found.text


def test_nothing_in_the_page_is_loaded_from_elsewhere() -> None:
    text = render(run(), [table("shop.a")], [chunk("shop.a")], [], [*BEGIN, *story("shop.a")])
    found = Page(text)
    for tag, data in found.tags:
        assert tag not in ("link", "img", "iframe", "base", "object", "embed")
        assert not {"src", "href", "xlink:href", "action", "srcset"} & set(data)
    assert "@import" not in text
    assert not re.search(r"https?://", text)
    assert re.findall(r"url\(([^)]*)\)", text) == ["#bad", "#wait"]


@pytest.mark.parametrize("where", ["name", "message", "job", "mark", "event", "state"])
def test_hostile_text_stays_text(where: str) -> None:
    name = HOSTILE if where == "name" else "shop.a"
    error = {"error": "SourceDown", "message": HOSTILE if where == "message" else "m", "guidance": "g"}
    tables = [
        table(name, "failed", error, mark=HOSTILE if where == "mark" else None),
        table("shop.other", HOSTILE if where == "state" else "published"),
    ]
    extra = [event(2, "warned", table=name, message=HOSTILE if where == "event" else "w")]
    changes = {"job": HOSTILE} if where == "job" else {}
    text = render(run(exit_code=1, state="failed", **changes), tables, [], [], [*BEGIN, *story(name), *extra])
    found = Page(text)
    assert HOSTILE in "".join(found.words)
    assert found.count("script") == 1
    assert "alert(" not in re.sub(r"&lt;script&gt;alert\(", "", text)


def test_secrets_do_not_reach_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_seen", {"s3cr3t<&value"})
    error = {
        "error": "SourceDown",
        "message": "cannot reach postgres://me:hunter22@db/shop with password=opensesame",
        "guidance": "check s3cr3t<&value",
    }
    attempt = {"at": at(2), "table_name": "shop.a", "chunk": None, "attempt": 1, "wait": 0.5,
               "error": "SourceDown",
               "message": "postgres://me:hunter22@db refused"}  # fmt: skip
    events = [*BEGIN, event(3, "warned", table="", message="token: opensesame")]
    text = render(run(exit_code=1), [table("shop.a", "failed", error)], [], [attempt], events)
    assert "postgres://me:***@db/shop" in text
    for secret in ("hunter22", "opensesame", "s3cr3t"):
        assert secret not in text


def test_failures_come_first_with_guidance_and_tables_of_one_cause_together() -> None:
    denied = [
        table(f"shop.t{index}", "failed", {
            "error": "PermissionMissing", "message": f"The user may not read shop.t{index}.",
            "guidance": "Grant it: `runner doctor JOB` prints the statements."})
        for index in range(40)
    ]  # fmt: skip
    parked = table("shop.z", "parked", {"error": "Parked", "message": "Parked until noon.", "guidance": "Later."})
    text = render(run(exit_code=1, state="failed"), [parked, *denied], [], [], BEGIN)
    found = Page(text)
    assert "Ended with failures" in found.text
    assert "0 tables of 41 published, 40 failed, 1 parked." in found.text
    assert "shop.t0 and 39 more tables" in found.text
    assert found.text.count("The user may not read") == 1
    assert "<code>runner doctor JOB</code>" in text
    assert found.text.index("The user may not read") < found.text.index("Parked until noon")
    assert found.text.index("What went wrong: 41 tables") < found.text.index("Tables over time")


def test_an_exit_code_of_nought_does_not_hide_failures_or_tables_left() -> None:
    assert "Ended with failures" in page(run(), [table("a"), table("b", "failed")], [], [], []).text
    assert "Not finished" in page(run(), [table("a"), table("b", "planned")], [], [], []).text


def test_a_table_that_another_run_holds_did_not_fail() -> None:
    busy = table("shop.a", "failed", {"error": "Busy", "message": "Run x holds it.", "guidance": "Wait."})
    found = page(run(exit_code=3, state="interrupted"), [busy], [], [], BEGIN)
    assert "Not finished" in found.text
    assert "1 held by another run" in found.text
    assert "Run the same command again" in found.text
    assert "What waits: 1 table" in found.text


def test_a_killed_run_without_events_is_drawn_from_its_ledger() -> None:
    tables = [
        table("shop.a"),
        table("shop.b", "running", started=at(2)),
        table("shop.c", "running", started=at(5)),
        table("shop.d", "planned"),
    ]
    chunks = [chunk("shop.a"), chunk("shop.b", "spooled", rows=70)]
    killed = run(state="running", finished=None, exit_code=None, seen=at(9))
    found = page(killed, tables, chunks, [], [])
    assert "Not finished" in found.text
    assert "killed or is still at work" in found.text
    assert "1 table of 4 published, 3 unfinished." in found.text
    assert found.bars() == ["b ok", "b none", "b none"]
    assert "8.0 s until the last sign of life" in found.text
    assert "70 more read" in found.text
    assert "the events of the run are missing" in found.text
    assert "events of the run were lost" in found.text


def test_events_may_end_anywhere() -> None:
    events = [*BEGIN, *story("shop.a"), *story("shop.b", 2)]
    for end in range(len(events) + 1):
        found = page(
            run(state="running", finished=None, exit_code=None),
            [table("shop.a")],
            [chunk("shop.a")],
            [],
            events[:end],
        )
        assert "Not finished" in found.text


def test_a_slot_taken_again_ends_what_was_in_it() -> None:
    events = [*BEGIN, story("shop.a")[0], *story("shop.b", 1, 3, 5), event(10, "run_finished")]
    found = page(run(exit_code=3, state="interrupted"), [table("shop.a", "running"), table("shop.b")], [], [], events)
    assert found.bars() == ["b none", "b ok"]


def test_the_night_between_two_processes_of_a_run_is_cut_out() -> None:
    night = 9 * 3600
    again = [
        event(night, "epoch_began", epoch=2, consistent=True, lsn=None, reason="first read"),
        event(night + 1, "run_started", run="r", tables=1, resumed=True, consistent=True),
        *story("shop.b", 1, night + 2, night + 8),
        event(night + 10, "run_finished"),
    ]
    events = [*BEGIN, *story("shop.a"), story("shop.b", 2, 3)[0], event(10, "draining", grace=30.0), *again]
    done = run(finished=at(night + 10))
    text = render(done, [table("shop.a"), table("shop.b")], [chunk("shop.a"), chunk("shop.b")], [], events)
    found = Page(text)
    assert "20.0 s at work, in 2 processes" in found.text
    assert found.bars() == ["b ok", "b none", "b ok"]
    assert 'class="cut" x1="50.00%"' in text
    assert "the run goes on with 1 table" in found.text
    assert "proved unchanged between its 2 epochs" in found.text


def test_what_happened_is_listed_once_with_its_times() -> None:
    events = [
        *BEGIN,
        *(event(2 + step, "limit_changed", limit=limit) for step, limit in enumerate((5, 3, 4))),
    ]
    events += [event(6, "source_paused", seconds=12.0)]
    events += [event(7 + i, "warned", table=f"shop.t{i}", message="give it a lag") for i in range(3)]
    attempts = [
        {"at": at(5 + i), "table_name": "shop.a", "chunk": "c", "attempt": i + 1, "wait": 0.5,
         "error": "SourceDown",
         "message": "lost"} for i in range(2)
    ]  # fmt: skip
    found = page(run(), [table("shop.a")], [chunk("shop.a")], attempts, events)
    assert "connections limited to 5 → 3 → 4" in found.text
    assert "the source asked for 12.0 s" in found.text
    assert found.text.count("give it a lag") == 1
    assert "shop.t0, shop.t1, shop.t2" in found.text
    assert "22:50:07 – 22:50:09" in found.text
    assert "shop.a: SourceDown: lost (2 retries, up to attempt 2, 1.0 s of waiting)" in found.text


def test_what_was_not_proved_is_not_called_proved() -> None:
    note = "a pooler in transaction mode is in between"
    loose = [event(0, "run_started", tables=1, resumed=False, consistent=False, note=note)]
    found = page(run(), [table("shop.a")], [chunk("shop.a", "loaded")], [], loose)
    assert "0 of 1 verified" in found.text
    assert "asked not to verify" in found.text
    assert f"Not consistent across tables: {note}." in found.text


def test_a_run_without_anything_is_still_a_page() -> None:
    found = page({"run": "x"}, [], [], [], [])
    assert "Not finished" in found.text
    assert "The run has no tables." in found.text
    assert "No table selected" in page(run(), [], [], [], []).text


def test_five_thousand_tables_stay_small_and_quick() -> None:
    names = [f"warehouse_schema.a_rather_long_table_name_{index:05d}" for index in range(5000)]
    error = {"error": "SourceDown", "message": "lost " * 20, "guidance": "look " * 20}
    tables = [table(name, "failed", {**error, "message": f"{i} {error['message']}"}) if i % 3 == 0
              else table(name, mark="2026-11-22 21:00:00.123456+00")
              for i, name in enumerate(names)]  # fmt: skip
    events = [*BEGIN]
    for index, name in enumerate(names):
        events += story(name, index % 24, 1 + index, 20 + index, "failed" if index % 3 == 0 else "published")
        events.append(event(2 + index, "retried", table=name, attempt=1, wait=0.1, message=f"no. {index}"))
        events.append(event(2 + index, "warned", table=name, message=f"warning {index}"))
    began = time.perf_counter()
    text = render(run(exit_code=1, finished=at(6000)), tables, [chunk(name) for name in names], [], events)
    assert time.perf_counter() - began < 10
    assert len(text.encode()) < 3_000_000
    found = Page(text)
    assert len(found.bars()) == 5000
    assert all(name in found.words for name in names[::500])


async def _write_ledger(path: Path) -> None:
    ledger = Ledger(path)
    await ledger.write(insert("run", run()), insert("tables", table("shop.a")))
    await ledger.write(insert("chunks", {**chunk("shop.a"), "bounds": "{}"}))
    await anyio.to_thread.run_sync(ledger.close)


@pytest.mark.parametrize("events", [None, "", '{"at": "2026-11-', '[1]\nnull\n{}\n{"at": 5, "action": "warned"}\n'])
async def test_the_page_is_written_for_its_owner_whatever_the_events_look_like(
    tmp_path: Path, events: str | None
) -> None:
    folder = RunFolder(tmp_path)
    await _write_ledger(folder.ledger)
    if events is not None:
        lines = "".join(json.dumps(one) + "\n" for one in [*BEGIN, *story("shop.a")])
        folder.events.write_text(lines + events, "utf-8")
    folder.report.write_text("old")
    folder.report.chmod(0o644)
    assert write_report(folder) == folder.report
    assert stat.S_IMODE(folder.report.stat().st_mode) == 0o600
    assert "Complete" in Page(folder.report.read_text("utf-8")).text
    assert [path.name for path in tmp_path.glob(".report*")] == []


def test_a_ledger_that_is_none_is_reported(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("not a database, not at all")
    with pytest.raises(LedgerDamaged):
        write_report(RunFolder(tmp_path))
