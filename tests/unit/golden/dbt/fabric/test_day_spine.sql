with bounds as (

    select cast('2024-02-27' as date) as first_day, cast('2024-03-02' as date) as last_day

),

days as (

    select dateadd(day, cast(d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d as int), bounds.first_day) as day
    from bounds as bounds
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d0
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d1
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d2
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d3
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d4
    where dateadd(day, cast(d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d as int), bounds.first_day) <= bounds.last_day

),

one_day as (

    select cast('2024-02-29' as date) as first_day, cast('2024-02-29' as date) as last_day

),

once as (

    select dateadd(day, cast(d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d as int), bounds.first_day) as day
    from one_day as bounds
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d0
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d1
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d2
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d3
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d4
    where dateadd(day, cast(d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d as int), bounds.first_day) <= bounds.last_day

),

no_day as (

    select cast(null as date) as first_day, cast(null as date) as last_day

),

never as (

    select dateadd(day, cast(d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d as int), bounds.first_day) as day
    from no_day as bounds
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d0
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d1
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d2
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d3
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d4
    where dateadd(day, cast(d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d as int), bounds.first_day) <= bounds.last_day

)

select cases.about, cases.found, cases.wanted
from (
    select 'first' as about, (select min(day) from days) as found, cast('2024-02-27' as date) as wanted
    union all select 'last' as about, (select max(day) from days) as found, cast('2024-03-02' as date) as wanted
    union all select 'the leap day' as about, (select max(day) from days where day < cast('2024-03-01' as date)) as found, cast('2024-02-29' as date) as wanted
    union all select 'one day' as about, (select max(day) from once) as found, cast('2024-02-29' as date) as wanted
    union all select 'no bounds' as about, (select max(day) from never) as found, cast(null as date) as wanted
    union all select 'how many' as about, dateadd(day, cast((select count(*) from days) as int), cast('2024-01-01' as date)) as found, cast('2024-01-06' as date) as wanted
    union all select 'how many of one' as about, dateadd(day, cast((select count(distinct day) + count(*) from once) as int), cast('2024-01-01' as date)) as found, cast('2024-01-03' as date) as wanted
) as cases
where cases.found <> cases.wanted
    or (cases.found is null and cases.wanted is not null)
    or (cases.found is not null and cases.wanted is null)
