"""A range of dates, cut into parts: what a backfill gives one run each.

A range is half-open: ``2024-01-01..2024-02-01`` holds 1 January and 31 January, and not 1 February. So does every part,
and where one ends the next begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from runner.document import nearest
from runner.errors import UsageError

UNITS = ("day", "week", "month", "quarter", "year")
_DAYS = re.compile(r"^([1-9]\d{0,4})d$")
_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_MOST = 10_000


@dataclass(frozen=True)
class Part:
    """Days from ``start`` on, up to ``end``, which is not one of them."""

    start: date
    end: date

    def __str__(self) -> str:
        return f"{self.start}..{self.end}"


def parse_range(text: str) -> Part:
    """Parse ``START..END``; END is not part of it.

    Raises:
        UsageError: These are not two dates, the first before the second.
    """
    first, sign, last = text.strip().partition("..")
    ends = []
    for one in (first, last):
        try:
            # fromisoformat takes weeks and dates without dashes too.
            if not sign or not _DATE.match(one):
                raise ValueError
            ends.append(date.fromisoformat(one))
        except ValueError:
            raise UsageError(
                f"--range {text}: two dates are meant, and this is not a date: {one!r}."
                if sign
                else f"--range {text}: two dates are meant, with two dots between them.",
                guidance="Write for example --range 2024-01-01..2024-07-01; the second date is not part of it.",
            ) from None
    if ends[0] >= ends[1]:
        raise UsageError(
            f"--range {text}: nothing lies between these dates.",
            guidance="The second date is not part of the range: a single day is --range 2024-01-01..2024-01-02.",
        )
    return Part(*ends)


def cut(whole: Part, by: str) -> list[Part]:
    """Cut a range into parts, oldest first.

    Args:
        by: day, week (from Monday), month, quarter, year: parts of the calendar, of which the first and the last may be
            shorter. Or ``<N>d``: so many days, from the start of the range on.

    Raises:
        UsageError: There is no such unit, or these are too many parts.
    """
    days = _DAYS.match(by)
    if days is None and by not in UNITS:
        near = nearest(by, UNITS)
        raise UsageError(
            f"--by {by}: there is no such part." + (f" Did you mean {near!r}?" if near else ""),
            guidance=f"Known: {', '.join(UNITS)}, and days as 10d.",
        )
    parts: list[Part] = []
    start = whole.start
    for border in _borders(whole.start, by, int(days[1]) if days else None):
        parts.append(Part(start, min(border, whole.end)))
        start = border
        if border >= whole.end:
            return parts
        if len(parts) >= _MOST:
            break
    raise UsageError(f"--range {whole} --by {by}: more than {_MOST:,} parts.", guidance="Choose longer parts.")


def left_out(whole: Part, by: str) -> date | None:
    """Return the last day that whoever wrote the range most likely meant to be in it, and that is not.

    ``2024-01-01..2024-06-30`` by month: 30 June alone is missing of June.
    """
    try:
        return whole.end if by in UNITS[1:] and _next(whole.end, by) == whole.end + timedelta(days=1) else None
    except (OverflowError, ValueError):  # the calendar ends
        return None


def _borders(start: date, by: str, days: int | None) -> Iterator[date]:
    border = start
    while border < date.max:
        try:
            border = border + timedelta(days=days) if days else _next(border, by)
        except (OverflowError, ValueError):  # the calendar ends
            border = date.max
        yield border


def _next(day: date, by: str) -> date:
    """Return the first day of the next part of the calendar."""
    if by == "day":
        return day + timedelta(days=1)
    if by == "week":
        return day + timedelta(days=7 - day.weekday())
    months = _MONTHS[by]
    number = (day.year * 12 + day.month - 1) // months * months + months
    return date(number // 12, number % 12 + 1, 1)
