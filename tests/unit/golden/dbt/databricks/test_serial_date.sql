select cases.about, cases.found, cases.wanted
from (
    select '1900: the first day' as about, case
        when floor(1) >= 61 then date_add(cast('1899-12-30' as date), cast(floor(1) as int))
        when floor(1) between 1 and 59 then date_add(cast('1899-12-31' as date), cast(floor(1) as int))
    end as found, cast('1900-01-01' as date) as wanted
    union all select '1900: the last day before the one that never was' as about, case
        when floor(59) >= 61 then date_add(cast('1899-12-30' as date), cast(floor(59) as int))
        when floor(59) between 1 and 59 then date_add(cast('1899-12-31' as date), cast(floor(59) as int))
    end as found, cast('1900-02-28' as date) as wanted
    union all select '1900: the day that never was' as about, case
        when floor(60) >= 61 then date_add(cast('1899-12-30' as date), cast(floor(60) as int))
        when floor(60) between 1 and 59 then date_add(cast('1899-12-31' as date), cast(floor(60) as int))
    end as found, cast(null as date) as wanted
    union all select '1900: the first day after it' as about, case
        when floor(61) >= 61 then date_add(cast('1899-12-30' as date), cast(floor(61) as int))
        when floor(61) between 1 and 59 then date_add(cast('1899-12-31' as date), cast(floor(61) as int))
    end as found, cast('1900-03-01' as date) as wanted
    union all select '1900: there is no day 0' as about, case
        when floor(0) >= 61 then date_add(cast('1899-12-30' as date), cast(floor(0) as int))
        when floor(0) between 1 and 59 then date_add(cast('1899-12-31' as date), cast(floor(0) as int))
    end as found, cast(null as date) as wanted
    union all select '1900: a day of this century' as about, case
        when floor(45351) >= 61 then date_add(cast('1899-12-30' as date), cast(floor(45351) as int))
        when floor(45351) between 1 and 59 then date_add(cast('1899-12-31' as date), cast(floor(45351) as int))
    end as found, cast('2024-02-29' as date) as wanted
    union all select '1900: the time of day is left out' as about, case
        when floor(45351.999) >= 61 then date_add(cast('1899-12-30' as date), cast(floor(45351.999) as int))
        when floor(45351.999) between 1 and 59 then date_add(cast('1899-12-31' as date), cast(floor(45351.999) as int))
    end as found, cast('2024-02-29' as date) as wanted
    union all select '1900: nothing' as about, case
        when floor(cast(null as integer)) >= 61 then date_add(cast('1899-12-30' as date), cast(floor(cast(null as integer)) as int))
        when floor(cast(null as integer)) between 1 and 59 then date_add(cast('1899-12-31' as date), cast(floor(cast(null as integer)) as int))
    end as found, cast(null as date) as wanted
    union all select '1904: the first day' as about, case when floor(0) >= 0 then date_add(cast('1904-01-01' as date), cast(floor(0) as int)) end as found, cast('1904-01-01' as date) as wanted
    union all select '1904: the same day is 1462 less' as about, case when floor(43889) >= 0 then date_add(cast('1904-01-01' as date), cast(floor(43889) as int)) end as found, cast('2024-02-29' as date) as wanted
    union all select '1904: nothing before it' as about, case when floor(-1) >= 0 then date_add(cast('1904-01-01' as date), cast(floor(-1) as int)) end as found, cast(null as date) as wanted
    union all select 'sheets: the first day' as about, date_add(cast('1899-12-30' as date), cast(floor(0) as int)) as found, cast('1899-12-30' as date) as wanted
    union all select 'sheets: day 60 is' as about, date_add(cast('1899-12-30' as date), cast(floor(60) as int)) as found, cast('1900-02-28' as date) as wanted
    union all select 'sheets: a day of this century' as about, date_add(cast('1899-12-30' as date), cast(floor(45351.5) as int)) as found, cast('2024-02-29' as date) as wanted
) as cases
where cases.found <> cases.wanted
    or (cases.found is null and cases.wanted is not null)
    or (cases.found is not null and cases.wanted is null)
