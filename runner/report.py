"""The report: one page that opens from disk, made of a run's ledger and, where there are any, its events."""

from __future__ import annotations

import functools
import html
import math
import os
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from runner import costs
from runner.errors import DiskFull
from runner.ledger import LedgerReader
from runner.profile import STAGES
from runner.runs import RunFolder
from runner.secrets import redact
from runner.story import (
    Row,
    Story,
    at_of,
    error_of,
    last_written,
    lasted_seconds,
    moment,
    read_events,
    retries_of,
    seconds_of,
)
from runner.units import format_seconds, format_size

# Each is worth a glance; thousands of them are worth a search in the ledger or in events.jsonl.
_MOST_ERRORS, _MOST_HAPPENINGS, _MOST_NAMES, _MOST_BARS, _MOST_ROWS, _SLOWEST = 40, 150, 30, 6000, 10_000, 10
_STATES = {
    "published": ("ok", "✓ published"),
    "failed": ("bad", "✕ failed"),
    "busy": ("wait", "‖ busy"),
    "parked": ("wait", "‖ parked"),
    "running": ("none", "… unfinished"),
    "planned": ("none", "… not started"),
}
_GLYPHS = {"ok": "M16 27l7 7 14-15", "bad": "M18 18l16 16M34 18L18 34", "wait": "M21 17v18M31 17v18"}
_TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 86400)
_GO_ON = "Run the same command again: it goes on where it stopped."
_COUNTS = (
    "Row counts of every chunk: what the source says it sent, what was written to the spool, and what stands "
    "in the destination's staging table. A table becomes visible only when they agree."
)

_HASHES = (
    "Every value of every chunk: a hash of the rows as they streamed from the source, and of the rows as they stand "
    "in the destination's staging table. A table becomes visible only when they agree."
)
_SECOND_LOOK = " The source was asked a second time, too, and hashed its rows itself."


def write_report(folder: RunFolder) -> Path:
    """Write the report of a run, also of one that was killed or is still at work.

    Raises:
        LedgerDamaged: The ledger cannot be read.
        DiskFull: The page cannot be written.
    """
    with LedgerReader(folder.ledger) as ledger:
        run = {"run": folder.run, "seen": last_written(folder.ledger), **(ledger.run() or {})}
        page = render(run, ledger.tables(), ledger.chunks(), ledger.attempts(), read_events(folder.events))
    temporary = folder.report.with_name(f".report-{os.getpid()}.html")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(page)
        temporary.replace(folder.report)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DiskFull(f"The report cannot be written: {error.strerror}.", path=folder.report) from error
    return folder.report


def render(
    run: dict[str, Any],
    tables: list[dict[str, Any]],
    chunks: list[dict[str, Any]],
    attempts: list[dict[str, Any]],
    events: list[dict[str, Any]],
) -> str:
    """Return the page.

    Args:
        run: The run's row of the ledger, of which only ``run`` is needed; ``seen`` may add when the
            ledger was last written.
        tables: All rows of the ledger's tables.
        chunks: All rows of its chunks.
        attempts: All rows of its attempts.
        events: What was read of events.jsonl: may be empty or end anywhere.
    """
    story = Story(run, tables, chunks, attempts, events)
    tone, verdict, sentence = _verdict(story)
    return _template().substitute(
        title=_text(f"{verdict}: {run.get('job', 'run')} {run['run']}"),
        eyebrow=f"Run report · <b>{_text(run.get('job') or 'unknown job')}</b>",
        tone=tone,
        glyph=_GLYPHS[tone],
        verdict=verdict,
        sentence=_text(sentence),
        facts=_facts(story),
        numbers=_numbers(story),
        errors=_errors(story),
        timeline=_timeline(story),
        throughput=_throughput(story),
        slowest=_slowest(story),
        stages=_stages(story),
        costs=costs.section(story),
        happenings=_happenings(story),
        verification=_verification(story),
        tables=_table_list(story),
        version=_text(run.get("version") or ""),
    )


# The sections, in the order of the page.


def _verdict(story: Story) -> tuple[str, str, str]:
    states, total = story.states, len(story.tables)
    parts = [f"{_many(states['published'], 'table')} of {total:,} published" if total else "no table selected"]
    for state, word in (("failed", "failed"), ("busy", "held by another run"), ("parked", "parked")):
        parts += [f"{states[state]:,} {word}"] if states[state] else []
    unfinished = states["running"] + states["planned"]
    parts += [f"{unfinished:,} unfinished"] if unfinished else []
    sentence = ", ".join(parts).capitalize() + "."
    code = story.run.get("exit_code")
    if story.run.get("state") == "running" or code is None:
        return "wait", "Not finished", f"{sentence} The run was killed or is still at work. {_GO_ON}"
    if code == 1 or states["failed"]:
        # Also after a good exit code: a run over some of the tables leaves the failures of the others.
        return "bad", "Ended with failures", sentence
    if states["published"] == total and code == 0:
        return "ok", "Complete", f"All {_many(total, 'table')} published." if total > 1 else sentence
    return "wait", "Not finished", f"{sentence} {_GO_ON}" if code else sentence


def _facts(story: Story) -> str:
    run = story.run
    started, finished = seconds_of(run.get("started")), seconds_of(run.get("finished"))
    when, full = "not recorded", "%Y-%m-%d %H:%M:%S"
    if started is not None:
        when = _time(started, full)
        if finished is not None:
            same_day = moment(started).date() == moment(finished).date()
            when += f" – {_time(finished, '%H:%M:%S' if same_day else full)}"
        when += " UTC"
    lasted = format_seconds(story.seconds)
    lasted += " until the last sign of life" if finished is None else " at work"
    if len(story.spans) > 1:
        lasted += f", in {len(story.spans)} processes"
    facts = {
        "Run": f'<span class="mono">{_text(run["run"])}</span>',
        "From → to": f"{_text(run.get('source', '?'))} → {_text(run.get('destination', '?'))}"
        + (f", dataset {_text(run['dataset'])}" if run.get("dataset") else ""),
        "When": when,
        "Duration": lasted if story.spans else "not recorded",
        "Command": f'<span class="mono">{_text(run.get("command") or "?")}</span>'
        + (f", environment {_text(run['environment'])}" if run.get("environment") else "")
        + (f", exit code {_text(run['exit_code'])}" if run.get("exit_code") is not None else ""),
    }
    return _pairs(facts)


def _numbers(story: Story) -> str:
    published = [row for row in story.tables if row["state"] == "published"]
    rows = sum(story.rows_of(row) for row in published)
    read = sum(chunk["rows"] or 0 for chunk in story.chunks)
    spooled = sum(event.get("rows", 0) for event in story.of("chunk_spooled")) or read
    size, unit = format_size(sum(chunk["bytes"] or 0 for chunk in story.chunks)).split(" ")
    verified = sum(chunk["state"] == "verified" for chunk in story.chunks)
    retries = retries_of(story)
    waited = format_seconds(sum(float(event.get("wait") or 0) for event in retries))
    speed = _short(spooled / story.seconds) if story.seconds >= 0.1 else "–"
    numbers = [
        ("Tables", f"{len(published):,}", f"of {len(story.tables):,} published"),
        ("Rows", _short(rows), "published" + (f"; {_short(read - rows)} more read" if read > rows else "")),
        ("Data read", f"{size} <small>{unit}</small>", "as compressed Parquet"),
        ("Speed", f"{speed} <small>rows/s</small>", "read, on average"),
        ("Retries", f"{len(retries):,}", f"{waited} of waiting" if retries else "none needed"),
        ("Chunks", f"{verified:,}", f"of {len(story.chunks):,} verified"),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{value}<p>{note}</p></dd></div>" for name, value, note in numbers)


def _errors(story: Story) -> str:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in story.tables:
        if row["state"] in ("failed", "busy", "parked"):
            error = error_of(row)
            # Thousands of tables with one cause are one thing to read: their messages differ by the name.
            message = str(error.get("message") or "No message was recorded.").replace(row["name"], "\0")
            kind, guidance = str(error.get("error") or ""), str(error.get("guidance") or "")
            groups.setdefault((row["state"], kind, message, guidance), []).append(row)
    if not groups:
        return ""
    order = sorted(groups.items(), key=lambda group: (group[0][0] != "failed", -len(group[1])))
    items = []
    for (state, kind, message, guidance), rows in order[:_MOST_ERRORS]:
        names = [row["name"] for row in rows]
        others = f" and {_many(len(names) - 1, 'more table')}" if len(names) > 1 else ""
        items.append(
            f'<li class="{_STATES[state][0]}"><h3>{_text(names[0])}{others} <code>{_text(kind)}</code></h3>'
            f"<p>{_prose(message.replace(chr(0), names[0]))}</p>"
            + (f'<p class="guide">{_prose(guidance)}</p>' if guidance else "")
            + (_names(names) if others else "")
            + "</li>"
        )
    tables, more = sum(len(rows) for rows in groups.values()), len(groups) - len(items)
    tone, title = ("bad", "What went wrong") if story.states["failed"] else ("wait", "What waits")
    left = f'<p class="soft">The ledger has {_many(more, "more error")}.</p>' if more else ""
    return (
        f'<section class="errors long {tone}"><h2>{title}: {_many(tables, "table")}</h2>'
        f"<ul>{''.join(items)}</ul>{left}</section>"
    )


def _timeline(story: Story) -> str:
    if not story.bars or story.seconds <= 0:
        return '<p class="soft">No table was started.</p>'
    order = sorted(story.bars, key=lambda bar: (bar.state == "published", bar.start - bar.end))
    kept = order[:_MOST_BARS]
    slots = sorted({bar.slot for bar in kept})
    step = max(7.0, min(24.0, 480 / len(slots)))
    height = step * len(slots)
    every = math.ceil(14 / step)
    parts = [_time_axis(story, height)]
    for index, slot in enumerate(slots):
        if index % every == 0:
            parts.append(f'<text x="-10" y="{step * (index + 0.5) + 4:.1f}" text-anchor="end">{slot}</text>')
    rows = {row["name"]: story.rows_of(row) for row in story.tables}
    for bar in sorted(kept, key=lambda bar: bar.start):
        tone, word = _STATES.get(bar.state, _STATES["running"])
        x = 100 * story.elapsed(bar.start) / story.seconds
        width = max(0.2, 100 * story.elapsed(bar.end) / story.seconds - x)
        parts.append(
            f'<rect x="{x:.2f}%" y="{step * slots.index(bar.slot) + 1.5:.1f}" width="{width:.2f}%" '
            f'height="{step - 3:.1f}" rx="2" class="b {tone}"><title>{_text(bar.table)}: {word[2:]}, '
            f"{rows.get(bar.table, 0):,} rows, {format_seconds(bar.end - bar.start)}</title></rect>"
        )
    used = {_STATES.get(bar.state, _STATES["running"]) for bar in kept}
    keys = "".join(
        f'<span><svg aria-hidden="true"><rect width="22" height="12" rx="2" class="b {tone}"/></svg>{word}</span>'
        for tone, word in _STATES.values()
        if (tone, word) in used
    )
    cut = " A dashed line marks where the run went on after an interruption." if len(story.spans) > 1 else ""
    left = f" The {len(kept):,} longest of {len(order):,} are drawn." if len(kept) < len(order) else ""
    return (
        f'<p class="soft">One row per slot, one bar per table, over the time at work.{cut}{left}</p>'
        f'<svg class="chart" style="height:{height + 26:.0f}px" role="img" aria-label="Tables over time">'
        f'{"".join(parts)}</svg><p class="legend">{keys}</p>'
    )


def _throughput(story: Story) -> str:
    chunks = [event for event in story.of("chunk_spooled") if event.get("rows")]
    if not chunks or story.seconds <= 0:
        return '<p class="soft">No chunk was read, or the events of the run were lost with its process.</p>'
    count = int(min(96, max(12, story.seconds * 2)))
    width = story.seconds / count
    bins = [0.0] * count
    for event in chunks:
        # A chunk's rows came while it was read, not at the moment it was complete.
        end = story.elapsed(at_of(event))
        start = max(0.0, end - max(float(event.get("seconds") or 0), width / 10))
        for index in range(int(start / width), min(count, int(end / width) + 1)):
            share = min(end, (index + 1) * width) - max(start, index * width)
            bins[index] += event["rows"] * max(0.0, share) / (end - start or 1)
    rates = [rows / width for rows in bins]
    mean, ticks = sum(bins) / story.seconds, _ticks(max(rates))
    top, height = max(ticks[-1], max(rates)), 190
    points = [(0.0, rates[0]), *(((i + 0.5) / count, rate) for i, rate in enumerate(rates)), (1.0, rates[-1])]
    path = "L".join(f"{1000 * x:.1f} {1000 - 1000 * y / top:.1f}" for x, y in points)
    lines = "".join(
        f'<line x1="0" x2="100%" y1="{(y := height - height * tick / top):.1f}" y2="{y:.1f}"/>'
        f'<text x="-10" y="{y + 4:.1f}" text-anchor="end">{_short(tick, 0)}</text>'
        for tick in ticks
    )
    level = height - height * mean / top
    hits = "".join(
        f'<rect class="hit" x="{100 * i / count:.2f}%" width="{100 / count:.2f}%" height="{height}">'
        f"<title>{_length(i * width)} – {_length((i + 1) * width)}: {_short(rate)} rows/s</title></rect>"
        for i, rate in enumerate(rates)
    )
    return (
        f'<p class="soft">Rows read per second. On average {_short(mean)} rows/s (dotted), at most '
        f"{_short(max(rates))} rows/s.</p>"
        f'<svg class="chart rate" style="height:{height + 26}px" role="img" aria-label="Rows per second">'
        f'<text x="-46" y="-10">rows/s</text>{_time_axis(story, height)}{lines}'
        f'<svg width="100%" height="{height}" viewBox="0 0 1000 1000" preserveAspectRatio="none">'
        f'<path class="area" d="M0 1000L{path}L1000 1000Z"/><path class="curve" d="M{path}"/></svg>'
        f'<line class="mean" x1="0" x2="100%" y1="{level:.1f}" y2="{level:.1f}"/>{hits}</svg>'
    )


def _slowest(story: Story) -> str:
    timed = [(seconds, row) for row in story.tables if (seconds := lasted_seconds(row)) is not None]
    timed.sort(key=lambda pair: -pair[0])
    if not timed:
        return '<p class="soft">No table has ended.</p>'
    longest = timed[0][0] or 1
    items = []
    for seconds, row in timed[:_SLOWEST]:
        tone, word = _STATES.get(row["state"], _STATES["running"])
        name, rows = _text(row["name"]), story.rows_of(row)
        items.append(
            f'<li><span class="name" title="{name}">{name}</span>'
            f'<i class="{tone}" style="width:{100 * seconds / longest:.1f}%"></i><span class="value">'
            f'<b>{format_seconds(seconds)}</b> <span class="soft">{_short(rows)} rows'
            f"{'' if row['state'] == 'published' else ', ' + word}</span></span></li>"
        )
    share = f"The {len(items)} slowest of {_many(len(timed), 'table')}, from start to end."
    return f'<p class="soft">{share}</p><ol class="bars">{"".join(items)}</ol>'


def _stages(story: Story) -> str:
    """Return where the time of the last process went, if it was profiled; nothing else fills the place."""
    spent: dict[str, float] = next((event["stages"] for event in reversed(story.of("time_spent"))), {})
    total, longest = sum(spent.values()) or 1.0, max(spent.values(), default=0.0) or 1.0
    items = [
        f'<li><span class="name" title="{_text(STAGES.get(name, ""))}">{_text(name)}</span>'
        f'<i class="ok" style="width:{100 * seconds / longest:.1f}%"></i><span class="value">'
        f'<b>{format_seconds(seconds)}</b> <span class="soft">{seconds / total:.0%}</span></span></li>'
        for name, seconds in sorted(spent.items(), key=lambda part: -part[1])
    ]
    if not items:
        return ""
    told = "Each moment of the last process is shared between the stages that were at work in it."
    return (
        f'<section><h2>Where the time went</h2><p class="soft">{told}</p>'
        f'<ol class="bars">{"".join(items)}</ol></section>'
    )


def _happenings(story: Story) -> str:
    groups: dict[tuple[str, str], list[Row]] = {}
    last_limit: tuple[str, str] | None = None
    others = [event for event in story.events if event["action"] != "retried"]
    happened = sorted([*retries_of(story), *others], key=at_of)
    for event in happened:
        tag, what = _happening(event)
        if not tag:
            continue
        key = (tag, what)
        if tag == "Limit":
            # Limits that follow one another are one line; what came between says why they moved.
            key = last_limit = last_limit or (tag, str(len(groups)))
        else:
            last_limit = None
        groups.setdefault(key, []).append(event)
    items = []
    days = {moment(at_of(event)).date() for events in groups.values() for event in events}
    pattern = "%H:%M:%S" if len(days) < 2 else "%m-%d %H:%M:%S"
    for (tag, what), events in list(groups.items())[:_MOST_HAPPENINGS]:
        names = list(dict.fromkeys(str(event["table"]) for event in events if event.get("table")))
        if tag == "Limit":
            limits = [str(event.get("limit")) for event in events]
            shown = limits if len(limits) <= 16 else [*limits[:8], "…", *limits[-7:]]
            what = f"connections limited to {' → '.join(shown)}"
        text = _prose(what if len(names) != 1 else f"{names[0]}: {what}")
        if tag == "Retry":
            waits = [float(event.get("wait") or 0) for event in events]
            most = max(int(event.get("attempt") or 0) for event in events)
            again = f"{_many(len(events), 'retry', 'retries')}, up to attempt {most}"
            text += f' <span class="soft">({again}, {format_seconds(sum(waits))} of waiting)</span>'
        until = f" – {_time(at_of(events[-1]), pattern)}" if at_of(events[-1]) - at_of(events[0]) >= 1 else ""
        details = _names(names) if len(names) > 1 else ""
        times = f"<span>{_time(at_of(events[0]), pattern)}{until}</span>"
        items.append(f"<li>{times}<b>{tag}</b><div>{text}{details}</div></li>")
    happening = {event["action"] for event in happened}
    rare = {"retried": "retries", "source_paused": "pauses", "limit_changed": "limit changes"}
    quiet = [word for action, word in rare.items() if action not in happening]
    notes = [f"No {', no '.join(quiet)}."] if quiet else []
    if len(items) < len(groups):
        notes.append(f"The first {len(items)} of {len(groups):,} kinds are listed.")
    note = f'<p class="soft">{" ".join(notes)}</p>' if notes else ""
    return note + (f'<ol class="log">{"".join(items)}</ol>' if items else "")


def _happening(event: Row) -> tuple[str, str]:
    action, message = event["action"], str(event.get("message", ""))
    if action == "retried":
        return "Retry", message
    if action == "epoch_began":
        kind = "one consistent snapshot" if event.get("consistent") else "no common snapshot"
        at = f" at {event['lsn']}" if event.get("lsn") else ""
        return "Epoch", f"epoch {event.get('epoch')}, {kind}{at} ({event.get('reason')})"
    if action == "run_started" and event.get("resumed"):
        return "Resumed", f"the run goes on with {_many(int(event.get('tables') or 0), 'table')}"
    words = {
        "source_paused": (
            "Pause",
            f"the source asked for {format_seconds(float(event.get('seconds') or 0))}",
        ),
        "limit_changed": ("Limit", ""),
        "table_parked": ("Parked", f"until {event.get('resume_at')}: {message}"),
        "table_replanned": ("Planned anew", str(event.get("reason"))),
        "schema_changed": ("Columns", str(event.get("change"))),
        "drifted": ("Drift", str(event.get("change"))),
        "rows_deleted": (
            "Deletes",
            f"{event.get('rows') or 0:,} rows are gone at the source, {'deleted' if event.get('hard') else 'marked'}",
        ),
        "warned": ("Warning", message),
        "draining": ("Stopping", f"a signal came; {format_seconds(float(event.get('grace') or 0))} of grace"),
    }
    return words.get(action, ("", ""))


def _verification(story: Story) -> str:
    verified, total = sum(chunk["state"] == "verified" for chunk in story.chunks), len(story.chunks)
    done = [row["name"] for row in story.tables if row["state"] == "published"]
    loaded = [name for name in done if story.of_table[name]]
    proved = sum(all(chunk["state"] == "verified" for chunk in story.of_table[name]) for name in loaded)
    hashed = sum(chunk["state"] == "verified" and bool(chunk.get("hash")) for chunk in story.chunks)
    if hashed:
        looked = any(event.get("how") == "source" for event in story.of("table_verified"))
        compared = _HASHES + (_SECOND_LOOK if looked else "")
        if hashed < verified:
            compared += f" {verified - hashed:,} chunks were compared by their counts alone."
    elif verified:
        compared = _COUNTS
    elif done:
        compared = "Nothing: the run was asked not to verify (--verify none)."
    else:
        compared = "Nothing yet: a table is verified in the moment before it is published."
    epochs = story.of("epoch_began", "run_started")
    note = next((str(event["note"]) for event in epochs if event.get("note")), "")
    loose = [event for event in epochs if event.get("consistent") is False]
    if not epochs:
        snapshot = "Not recorded: the events of the run are missing."
    elif loose:
        snapshot = "Not consistent across tables" + (f": {note}." if note else ".")
    else:
        count = len({event.get("epoch") for event in epochs if event.get("epoch") is not None})
        snapshot = "Consistent: every chunk was read from one picture of the source" + (
            f", or proved unchanged between its {count} epochs." if count > 1 else "."
        )
    share = 100 * verified / total if total else 0
    meter = f'<span class="meter" aria-hidden="true"><i style="width:{share:.1f}%"></i></span>'
    facts = {
        "Compared": _text(compared),
        "Chunks": f"{meter}{verified:,} of {total:,} verified",
        "Tables": f"{proved:,} of {len(done):,} published are verified in every chunk",
        "Snapshot": _text(snapshot),
    }
    if hashed:
        facts["Proof"] = "The fingerprints are in <code>proof.json</code> beside this page."
    return f'<dl class="proof">{_pairs(facts)}</dl>'


def _table_list(story: Story) -> str:
    if not story.tables:
        return '<p class="soft">The run has no tables.</p>'
    kept = story.tables
    if len(kept) > _MOST_ROWS:
        kept = sorted(kept, key=lambda row: row["state"] == "published")[:_MOST_ROWS]
    lines = []
    for row in kept:
        tone, word = _STATES.get(row["state"], ("none", str(row["state"])))
        chunks = story.of_table[row["name"]]
        done = sum(chunk["state"] in ("loaded", "verified") for chunk in chunks)
        seconds = lasted_seconds(row)
        plain = "".join(f"<td>{_text(text)}</td>" for text in (row["destination"], row["mode"], word))
        numbers = (
            f"{story.rows_of(row):,}",
            f"{done} of {len(chunks)}" if done < len(chunks) else f"{done}",
            "" if seconds is None else f"{seconds:,.1f}",
        )
        lines.append(
            f'<tr class="{tone}"><th scope="row">{_text(row["name"])}</th>{plain}'
            + "".join(f'<td class="n">{number}</td>' for number in numbers)
            + f'<td class="mono">{_text(row["mark"] or "")}</td></tr>'
        )
    words = dict.fromkeys(_STATES.get(row["state"], ("", str(row["state"])))[1] for row in kept)
    options = "".join(f"<option>{_text(word)}</option>" for word in words)
    heads = "".join(
        f"<th{' class=n' if name in ('Rows', 'Chunks', 'Seconds') else ''}>{name}</th>"
        for name in ("Table", "Destination", "Mode", "State", "Rows", "Chunks", "Seconds", "Mark")
    )
    whole = len(kept) == len(story.tables)
    left = "" if whole else f'<p class="soft">{len(kept):,} of {len(story.tables):,} are listed.</p>'
    return (
        f'{left}<div class="tools" hidden><input type="search" placeholder="Filter by name, mode, mark …" '
        f'aria-label="Filter tables"><select aria-label="State"><option value="">Every state</option>'
        f'{options}</select><output class="soft" aria-live="polite"></output></div>'
        f'<div class="box" tabindex="0" role="region" aria-label="All tables"><table><thead><tr>{heads}</tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


# Pieces.


@functools.cache
def _template() -> Template:
    return Template(resources.files("runner").joinpath("report.html").read_text("utf-8"))


def _text(value: object) -> str:
    return html.escape(redact(str(value)))


def _prose(value: object) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(value))


def _many(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _pairs(facts: dict[str, str]) -> str:
    return "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    listed = ", ".join(_text(name) for name in names[:_MOST_NAMES])
    return f"<details><summary>{_many(len(names), 'table')}</summary><p>{listed}{more}</p></details>"


def _short(count: float, digits: int = 1) -> str:
    """Return a count in at most five characters and a unit."""
    if count < 10_000:
        return f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"
    for unit in ("k", "M"):
        count /= 1000
        if count < 1000:
            return f"{count:.{digits if count < 100 and count != int(count) else 0}f} {unit}"
    return f"{count / 1000:,.{digits}f} G"


def _length(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def _ticks(top: float) -> list[float]:
    """Return at most six round numbers from nought up to a value."""
    power = 10.0 ** math.floor(math.log10(top / 5)) if top > 0 else 1.0
    return _multiples(top, next(factor * power for factor in (1, 2, 5, 10) if top / (factor * power) <= 5))


def _multiples(top: float, step: float) -> list[float]:
    return [step * index for index in range(int(top / step + 1e-9) + 1)]


def _time_axis(story: Story, height: float) -> str:
    parts = []
    step = next((step for step in _TIME_STEPS if story.seconds / step <= 8), story.seconds)
    for index, tick in enumerate(_multiples(story.seconds, step)):
        x = 100 * tick / story.seconds
        anchor = "start" if index == 0 else "end" if x > 97 else "middle"
        parts.append(
            f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{height:.0f}"/>'
            f'<text x="{x:.2f}%" y="{height + 18:.0f}" '
            f'text-anchor="{anchor}"{" class=minor" if index % 2 else ""}>{_length(tick)}</text>'
        )
    for start, _ in story.spans[1:]:
        x = 100 * story.elapsed(start) / story.seconds
        parts.append(f'<line class="cut" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{height:.0f}"/>')
    return "".join(parts)


def _time(at: float, pattern: str) -> str:
    return f'<time datetime="{moment(at):%Y-%m-%dT%H:%M:%SZ}">{moment(at):{pattern}}</time>'
