select cases.about, cases.found, cases.wanted
from (
    select 'a fraction' as about, cast(datediff_big(microsecond, cast('2024-02-29 23:59:59.75' as datetime2(6)), cast('2024-03-01 00:00:01' as datetime2(6))) as float) / 1000000 as found, 1.25 as wanted
    union all select 'less than a second, over midnight' as about, cast(datediff_big(microsecond, cast('2024-02-29 23:59:59.875' as datetime2(6)), cast('2024-03-01 00:00:00.125' as datetime2(6))) as float) / 1000000 as found, 0.25 as wanted
    union all select 'backwards' as about, cast(datediff_big(microsecond, cast('2024-03-01 00:00:00' as datetime2(6)), cast('2024-02-29 00:00:00' as datetime2(6))) as float) / 1000000 as found, -86400 as wanted
    union all select 'years' as about, cast(datediff_big(microsecond, cast('1999-01-01 00:00:00' as datetime2(6)), cast('2024-01-01 00:00:00' as datetime2(6))) as float) / 1000000 as found, 788918400 as wanted
    union all select 'nothing' as about, cast(datediff_big(microsecond, cast(null as datetime2(6)), cast('2024-01-01 00:00:00' as datetime2(6))) as float) / 1000000 as found, cast(null as integer) as wanted
) as cases
where cases.found <> cases.wanted
    or (cases.found is null and cases.wanted is not null)
    or (cases.found is not null and cases.wanted is null)
