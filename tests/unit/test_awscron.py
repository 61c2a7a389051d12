"""Cron of six fields."""

from datetime import date

import pytest

from orchestra.validation.awscron import CronError, parse_cron, six_fields


@pytest.mark.parametrize(
    ("cron", "minutes"),
    [
        ("0 8 ? * * *", 1440),
        ("0 8 * * ? *", 1440),
        ("*/5 * * * ? *", 5),
        ("0 8,9 ? * MON-FRI *", 60),
        ("30 23,0 * * ? *", 60),
        ("0 8 ? * sat *", 7 * 1440),
        ("0 8 ? * 2-6 *", 1440),
        ("0 8 1 * ? *", 28 * 1440),
        ("0 8 L * ? *", 28 * 1440),
        ("0 8 ? JAN MON#1 2027", None),
        ("0 8 29 FEB ? *", None),
        ("0 8 31 2 ? *", None),
    ],
)
def test_the_shortest_gap(cron, minutes):
    assert parse_cron(cron).shortest_gap() == minutes


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 0 ? 3 1 2026", [1, 8, 15, 22, 29]),
        ("0 0 ? 3 7 2026", [7, 14, 21, 28]),
        ("0 0 ? 3 FRI#3 2026", [20]),
        ("0 0 ? 3 6L 2026", [27]),
        ("0 0 ? 3 L 2026", [7, 14, 21, 28]),
        ("0 0 L 3 ? 2026", [31]),
        ("0 0 1W 3 ? 2026", [2]),
        ("0 0 28W 3 ? 2026", [27]),
        ("0 0 LW 5 ? 2026", []),
        ("0 0 ? 3 SAT-MON 2026", [1, 2, 7, 8, 9, 14, 15, 16, 21, 22, 23, 28, 29, 30]),
        ("0 0 1,10-12,20/5 3 ? 2026", [1, 10, 11, 12, 20, 25, 30]),
    ],
)
def test_days(cron, days):
    # 1 March 2026 is a Sunday.
    parsed = parse_cron(cron)
    assert [day for day in range(1, 32) if parsed.is_day(date(2026, 3, day))] == days


@pytest.mark.parametrize(
    ("cron", "said", "offset", "hint"),
    [
        ("", "the cron has 0 fields, not six", 0, "The fields are"),
        ("0 8 * * *", "the cron has 5 fields, not six", 0, "In six fields it is '0 8 ? * * *'."),
        ("0 0 8 ? * * *", "the cron has 7 fields, not six", 0, "There are no seconds: '0 8 ? * * *'."),
        ("60 8 ? * * *", "minute: 60 is not between 0 and 59", 0, ""),
        ("0 8 ? 13 * *", "month: 13 is not between 1 and 12", 6, ""),
        ("0 8 ? * 0 *", "day of the week: 0 is not between 1 and 7", 8, "1 is Sunday and 7 is Saturday."),
        ("0 8 ? * MO *", "day of the week: 'MO' is not known", 8, "Known: 1 to 7, SUN"),
        ("0 8 ? * 2#6 *", "there is no 6th week", 8, ""),
        ("*/0 8 ? * * *", "'*/0' is no step", 0, "For example */5."),
        ("0 8 * * * *", "exactly one is '?'; here neither is", 8, "For example '0 8 ? * * *'."),
        ("0 8 ? * ? *", "exactly one is '?'; here both are", 8, ""),
        ("0 8 1 * MON *", "exactly one is '?'", 8, "For example '0 8 ? * MON *'."),
        ("0 8 ? * * 1969", "year: 1969 is not between 1970 and 2199", 10, ""),
        ("0 8 ² * ? *", "day of the month: '²' is not known", 4, ""),
    ],
)
def test_what_is_refused(cron, said, offset, hint):
    with pytest.raises(CronError) as caught:
        parse_cron(cron)
    assert said in str(caught.value)
    assert caught.value.offset == offset
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("five", "six"),
    [
        ("0 8 * * *", "0 8 ? * * *"),
        ("*/15 * 1 * *", "*/15 * 1 * ? *"),
        ("0 8 * * 1-5", "0 8 ? * 2-6 *"),
        ("0 8 * * 0", "0 8 ? * 1 *"),
        ("0 8 * * 7", "0 8 ? * 1 *"),
        ("0 8 * * MON-FRI", "0 8 ? * MON-FRI *"),
        ("0 8 * * 5-7", None),
        ("0 8 1 * 1", None),
        ("0 8 * *", None),
    ],
)
def test_five_fields_become_six(five, six):
    assert six_fields(five) == six
