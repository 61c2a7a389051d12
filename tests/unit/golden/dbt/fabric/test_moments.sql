select cases.about, cases.found, cases.wanted
from (
    select 'late in the day' as about, cast(cast('2024-02-29 23:59:59.999' as datetime2(6)) as date) as found, cast('2024-02-29' as date) as wanted
    union all select 'early in the day' as about, cast(cast('2024-02-29 00:00:00' as datetime2(6)) as date) as found, cast('2024-02-29' as date) as wanted
    union all select 'seconds of 1970' as about, cast(dateadd(second, cast(floor(1709251199) as int), cast('1970-01-01' as datetime2(6))) as date) as found, cast('2024-02-29' as date) as wanted
    union all select 'a second later' as about, cast(dateadd(second, cast(floor(1709251200) as int), cast('1970-01-01' as datetime2(6))) as date) as found, cast('2024-03-01' as date) as wanted
    union all select 'no moment' as about, cast(cast(null as datetime2(6)) as date) as found, cast(null as date) as wanted
    union all select 'days on' as about, dateadd(day, cast(2 as int), cast('2024-02-28' as date)) as found, cast('2024-03-01' as date) as wanted
    union all select 'days back' as about, dateadd(day, cast(-366 as int), cast('2024-03-01' as date)) as found, cast('2023-03-01' as date) as wanted
) as cases
where cases.found <> cases.wanted
    or (cases.found is null and cases.wanted is not null)
    or (cases.found is not null and cases.wanted is null)
