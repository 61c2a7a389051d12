select cases.about, cases.found, cases.wanted
from (
    select 'half goes up' as about, cast(4.335 as decimal(18, 2)) as found, 4.34 as wanted
    union all select 'and down' as about, cast(-4.335 as decimal(18, 2)) as found, -4.34 as wanted
    union all select 'a double' as about, cast(0.1 + 0.2 as decimal(18, 4)) as found, 0.3 as wanted
    union all select 'true' as about, case when coalesce(1 = 1, false) = coalesce(2 = 2, false) then 1 else 0 end as found, 1 as wanted
    union all select 'false' as about, case when coalesce(1 = 2, false) = coalesce(2 = 2, false) then 1 else 0 end as found, 0 as wanted
    union all select 'unknown is false' as about, case when coalesce(1 = nullif(1, 1), false) = coalesce(1 = 2, false) then 1 else 0 end as found, 1 as wanted
) as cases
where cases.found <> cases.wanted
    or (cases.found is null and cases.wanted is not null)
    or (cases.found is not null and cases.wanted is null)
