with bounds as (

    select {{ day('2024-02-27') }} as first_day, {{ day('2024-03-02') }} as last_day

),

days as (

    {{ day_spine('bounds') }}

),

one_day as (

    select {{ day('2024-02-29') }} as first_day, {{ day('2024-02-29') }} as last_day

),

once as (

    {{ day_spine('one_day') }}

),

no_day as (

    select {{ day(none) }} as first_day, {{ day(none) }} as last_day

),

never as (

    {{ day_spine('no_day') }}

)

{{ wrong_cases([
    ['first', '(select min(day) from days)', day('2024-02-27')],
    ['last', '(select max(day) from days)', day('2024-03-02')],
    ['the leap day', "(select max(day) from days where day < " ~ day('2024-03-01') ~ ")", day('2024-02-29')],
    ['one day', '(select max(day) from once)', day('2024-02-29')],
    ['no bounds', '(select max(day) from never)', day(none)],
    ['how many', add_days(day('2024-01-01'), '(select count(*) from days)'), day('2024-01-06')],
    ['how many of one', add_days(day('2024-01-01'), '(select count(distinct day) + count(*) from once)'),
     day('2024-01-03')],
]) }}
