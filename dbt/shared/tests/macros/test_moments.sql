{{ wrong_cases([
    ['late in the day', utc_day(moment('2024-02-29 23:59:59.999')), day('2024-02-29')],
    ['early in the day', utc_day(moment('2024-02-29 00:00:00')), day('2024-02-29')],
    ['seconds of 1970', utc_day(moment_of('1709251199')), day('2024-02-29')],
    ['a second later', utc_day(moment_of('1709251200')), day('2024-03-01')],
    ['no moment', utc_day(moment(none)), day(none)],
    ['days on', add_days(day('2024-02-28'), '2'), day('2024-03-01')],
    ['days back', add_days(day('2024-03-01'), '-366'), day('2023-03-01')],
]) }}
