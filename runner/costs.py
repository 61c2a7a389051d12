"""What a run took of a destination that is paid by use, as a section of its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

from runner.source import Table as SourceTable
from runner.story import Row, Story
from runner.units import format_size

_MOST_TABLES = 50
_NOTE = (
    "Statements that several small tables share are divided between them. Credits are an estimate: the seconds that "
    "statements took, at the rate of the warehouse's size; what it bills for being awake comes on top."
)
_KINDS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("statements", "Statements", lambda value: f"{value:,.1f}".removesuffix(".0")),
    ("staged", "Bytes staged", format_size),
    ("credits", "Credits", lambda value: f"{value:.5f}"),
    ("billed", "Bytes billed", format_size),
)


def of_hashing(tables: Iterable[SourceTable]) -> str:
    """Return what comparing tables by hash costs at a destination that is paid by use, in words."""
    found = list(tables)
    rows, size = sum(table.rows for table in found), format_size(sum(table.bytes for table in found))
    return (
        f"values are compared by hash: the destination reads about {rows:,} rows, {size} at the source, and bills for "
        "it; --verify counts reads none"
    )


def section(story: Story) -> str:
    """Return the section; nothing where the destination is not paid by use."""
    tables: dict[str, Row] = {}
    for event in story.of("spent"):
        found = tables.setdefault(str(event.get("table")), {"statements": 0.0, "staged": 0})
        for key in ("statements", "staged", "credits", "billed"):
            if event.get(key) is not None:
                found[key] = found.get(key, 0) + event[key]
    if not tables:
        return ""
    shown = [kind for kind in _KINDS if any(kind[0] in found for found in tables.values())]
    total = {key: sum(found.get(key, 0) for found in tables.values()) for key, _, _ in shown}
    ranked = sorted(tables.items(), key=lambda one: [-one[1].get(key, 0) for key, _, _ in reversed(shown)])
    lines = [("All tables", total), *ranked[:_MOST_TABLES]]
    heads = "".join(f'<th class="n">{name}</th>' for _, name, _ in shown)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td class="n">{form(found[key]) if key in found else ""}</td>' for key, _, form in shown)
        + "</tr>"
        for name, found in lines
    )
    return (
        f'<section><h2>Cost at the destination</h2><p class="soft">{_NOTE}</p><div class="box" tabindex="0" '
        f'role="region" aria-label="Cost at the destination"><table><thead><tr><th>Table</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )
