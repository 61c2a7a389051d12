select cases.about, cases.found, cases.wanted
from (
    select 'late in the day' as about, cast(to_utc_timestamp(cast('2024-02-29 23:59:59.999+00:00' as timestamp), current_timezone()) as date) as found, cast('2024-02-29' as date) as wanted
    union all select 'early in the day' as about, cast(to_utc_timestamp(cast('2024-02-29 00:00:00+00:00' as timestamp), current_timezone()) as date) as found, cast('2024-02-29' as date) as wanted
    union all select 'seconds of 1970' as about, cast(to_utc_timestamp(timestamp_micros(cast(cast(1709251199 as double) * 1000000 as bigint)), current_timezone()) as date) as found, cast('2024-02-29' as date) as wanted
    union all select 'a second later' as about, cast(to_utc_timestamp(timestamp_micros(cast(cast(1709251200 as double) * 1000000 as bigint)), current_timezone()) as date) as found, cast('2024-03-01' as date) as wanted
    union all select 'no moment' as about, cast(to_utc_timestamp(cast(null as timestamp), current_timezone()) as date) as found, cast(null as date) as wanted
    union all select 'days on' as about, date_add(cast('2024-02-28' as date), cast(2 as int)) as found, cast('2024-03-01' as date) as wanted
    union all select 'days back' as about, date_add(cast('2024-03-01' as date), cast(-366 as int)) as found, cast('2023-03-01' as date) as wanted
) as cases
where cases.found <> cases.wanted
    or (cases.found is null and cases.wanted is not null)
    or (cases.found is not null and cases.wanted is null)
