"""Cron of six fields: minute, hour, day of the month, month, day of the week, year.

Facts: Amazon EventBridge docs, "Cron expressions" (ranges, names, ``?``, ``L``, ``W``, ``#``, 1 is Sunday); Orchestra
docs, "Schedules" (six fields, times of a named zone).
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# A leap year and those around it: every rule of a day that comes again at all comes within them.
_FIRST, _YEARS = 2023, 5


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, MONTHS),
    _Field("day of the week", 1, 7, DAYS),
    _Field("year", 1970, 2199),
)
_Days = Callable[[date], bool]


class CronError(ValueError):
    """A cron that Orchestra refuses.

    Attributes:
        offset: Where in the text, from 0.
        hint: What would be right.
    """

    def __init__(self, message: str, offset: int = 0, hint: str = "") -> None:
        super().__init__(message)
        self.offset = offset
        self.hint = hint


@dataclass(frozen=True)
class Cron:
    """When something happens.

    Attributes:
        times: Minutes of a day, in order.
        is_day: Whether it happens on a day.
    """

    times: tuple[int, ...]
    is_day: _Days

    def shortest_gap(self) -> int | None:
        """Return the minutes between two ticks, where they are nearest; None where there is at most one."""
        gaps = [later - sooner for sooner, later in pairwise(self.times)]
        first = date(_FIRST, 1, 1)
        days = [day for day in range(366 * _YEARS) if self.is_day(first + timedelta(days=day))]
        apart = min((later - sooner for sooner, later in pairwise(days)), default=None)
        if apart is not None:
            gaps.append(apart * 1440 - self.times[-1] + self.times[0])
        return min(gaps, default=None) if days else None


def parse_cron(text: str) -> Cron:
    """Return what a cron says.

    Raises:
        CronError: Orchestra would refuse it.
    """
    found = [(match.group(), match.start()) for match in re.finditer(r"\S+", text)]
    if len(found) != len(_FIELDS):
        _refuse_number([word for word, _ in found])
    (minute, hour, day, month, weekday, year) = found
    minutes, hours = _values(_FIELDS[0], *minute), _values(_FIELDS[1], *hour)
    months, years = _values(_FIELDS[3], *month), _values(_FIELDS[5], *year)
    questions = [word for word, _ in (day, weekday)].count("?")
    if questions != 1:
        which = "both are" if questions else "neither is"
        raise CronError(
            f"of the day of the month and the day of the week, exactly one is '?'; here {which}.",
            weekday[1],
            f"For example {_repaired([word for word, _ in found])!r}.",
        )
    is_day = _weekdays(*weekday) if day[0] == "?" else _monthdays(*day)
    return Cron(
        tuple(sorted(one * 60 + other for one in hours for other in minutes)),
        lambda when: when.month in months and when.year in years and is_day(when),
    )


def six_fields(five: str) -> str | None:
    """Return what a cron of five fields is in six; None where that cannot be said."""
    words = five.split()
    if len(words) != 5:
        return None
    minute, hour, day, month, weekday = words
    if weekday == "*":
        return f"{minute} {hour} ? {month} * *" if day == "*" else f"{minute} {hour} {day} {month} ? *"
    if day != "*":
        return None
    if not re.fullmatch(r"[0-7A-Za-z,-]+", weekday):
        return None
    # Elsewhere 0 and 7 are Sunday; here 1 is.
    moved = re.sub(r"\d", lambda match: str(int(match.group()) % 7 + 1), weekday)
    if any(int(begin) > int(end) for begin, end in re.findall(r"(\d)-(\d)", moved)):
        return None
    return f"{minute} {hour} ? {month} {moved} *"


def _refuse_number(words: list[str]) -> None:
    said = f"the cron has {len(words)} field{'' if len(words) == 1 else 's'}, not six"
    hint = "The fields are: minute, hour, day of the month, month, day of the week, year."
    if len(words) == 5:
        six = six_fields(" ".join(words))
        hint = f"In six fields it is {six!r}." if six else hint
    elif len(words) == 7:
        hint = f"There are no seconds: {' '.join(words[1:])!r}."
    raise CronError(f"{said}.", 0, hint)


def _repaired(words: list[str]) -> str:
    minute, hour, day, month, weekday, year = words
    if weekday in ("*", "?"):
        day, weekday = ("?", "*") if day in ("*", "?") else (day, "?")
    else:
        day = "?"
    return " ".join((minute, hour, day, month, weekday, year))


def _values(field: _Field, word: str, offset: int) -> set[int]:
    """Return what a list of values, ranges and steps means."""
    found: set[int] = set()
    for part in word.split(","):
        span, slash, step = part.partition("/")
        if slash and (not step.isdecimal() or int(step) < 1):
            raise CronError(f"{field.name}: {part!r} is no step.", offset, f"For example {span or '0'}/5.")
        if span == "*":
            low, high = field.low, field.high
        else:
            begin, dash, end = span.partition("-")
            low = _value(field, begin, offset)
            high = _value(field, end, offset) if dash else field.high if slash else low
        every = int(step) if slash else 1
        # Nothing says whether from Friday to Monday goes round the week, so it is taken.
        high += field.high - field.low + 1 if low > high else 0
        found |= {(one - field.low) % (field.high - field.low + 1) + field.low for one in range(low, high + 1, every)}
    return found


def _value(field: _Field, word: str, offset: int) -> int:
    if word.upper() in field.names:
        return field.names.index(word.upper()) + field.low
    if not (word.isascii() and word.isdecimal()):
        hint = f"Known: {field.low} to {field.high}" + (f", {', '.join(field.names)}." if field.names else ".")
        raise CronError(f"{field.name}: {word!r} is not known.", offset, hint)
    if not field.low <= int(word) <= field.high:
        hint = "1 is Sunday and 7 is Saturday." if field.names == DAYS else ""
        raise CronError(f"{field.name}: {word} is not between {field.low} and {field.high}.", offset, hint)
    return int(word)


def _monthdays(word: str, offset: int) -> _Days:
    field = _FIELDS[2]
    if word == "L":
        return lambda when: when.day == _last(when)
    if word == "LW":
        return lambda when: when.day == _workday(when, _last(when))
    near = re.fullmatch(r"(\d+)W", word)
    if near:
        wanted = _value(field, near[1], offset)
        return lambda when: wanted <= _last(when) and when.day == _workday(when, wanted)
    days = _values(field, word, offset)
    return lambda when: when.day in days


def _weekdays(word: str, offset: int) -> _Days:
    field = _FIELDS[4]
    if word == "L":
        return lambda when: _weekday(when) == 7
    last = re.fullmatch(r"(\w+)L", word)
    if last:
        wanted = _value(field, last[1], offset)
        return lambda when: _weekday(when) == wanted and when.day > _last(when) - 7
    which = re.fullmatch(r"(\w+)#(\d)", word)
    if which:
        wanted, number = _value(field, which[1], offset), int(which[2])
        if not 1 <= number <= 5:
            raise CronError(f"{field.name}: there is no {number}th week of a month.", offset)
        return lambda when: _weekday(when) == wanted and (when.day - 1) // 7 + 1 == number
    days = _values(field, word, offset)
    return lambda when: _weekday(when) in days


def _weekday(when: date) -> int:
    return when.isoweekday() % 7 + 1


def _last(when: date) -> int:
    return calendar.monthrange(when.year, when.month)[1]


def _workday(when: date, wanted: int) -> int:
    """Return the day of a month from Monday to Friday that is nearest to one."""
    weekday = date(when.year, when.month, wanted).isoweekday()
    if weekday == 6:
        return wanted - 1 if wanted > 1 else wanted + 2
    if weekday == 7:
        return wanted + 1 if wanted < _last(when) else wanted - 2
    return wanted
