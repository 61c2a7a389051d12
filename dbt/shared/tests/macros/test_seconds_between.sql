{{ wrong_cases([
    ['a fraction', seconds_between(moment('2024-02-29 23:59:59.75'), moment('2024-03-01 00:00:01')), '1.25'],
    ['less than a second, over midnight', seconds_between(moment('2024-02-29 23:59:59.875'), moment('2024-03-01 00:00:00.125')),
     '0.25'],
    ['backwards', seconds_between(moment('2024-03-01 00:00:00'), moment('2024-02-29 00:00:00')), '-86400'],
    ['years', seconds_between(moment('1999-01-01 00:00:00'), moment('2024-01-01 00:00:00')), '788918400'],
    ['nothing', seconds_between(moment(none), moment('2024-01-01 00:00:00')), 'cast(null as integer)'],
]) }}
