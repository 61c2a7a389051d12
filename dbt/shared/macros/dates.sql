{#- Days and moments. Nothing here depends on the time zone of a session. -#}

{#- The day that is so many whole days after another one. Both are SQL; `days` may be a column. -#}
{% macro add_days(day, days) -%}
    {{ return(adapter.dispatch('add_days', 'shared')(day, days)) }}
{%- endmacro %}

{% macro default__add_days(day, days) -%}
    cast({{ day }} + cast({{ days }} as integer) as date)
{%- endmacro %}

{% macro snowflake__add_days(day, days) -%}
    cast(dateadd(day, {{ days }}, {{ day }}) as date)
{%- endmacro %}

{% macro bigquery__add_days(day, days) -%}
    date_add({{ day }}, interval cast({{ days }} as int64) day)
{%- endmacro %}

{% macro databricks__add_days(day, days) -%}
    date_add({{ day }}, cast({{ days }} as int))
{%- endmacro %}

{% macro fabric__add_days(day, days) -%}
    dateadd(day, cast({{ days }} as int), {{ day }})
{%- endmacro %}


{#- The calendar day, in UTC, of a moment (a timestamp with time zone; in Fabric a datetime2 that is in UTC). -#}
{% macro utc_day(moment) -%}
    {{ return(adapter.dispatch('utc_day', 'shared')(moment)) }}
{%- endmacro %}

{% macro default__utc_day(moment) -%}
    cast({{ moment }} at time zone 'UTC' as date)
{%- endmacro %}

{% macro snowflake__utc_day(moment) -%}
    to_date(convert_timezone('UTC', {{ moment }}))
{%- endmacro %}

{% macro bigquery__utc_day(moment) -%}
    date({{ moment }}, 'UTC')
{%- endmacro %}

{% macro databricks__utc_day(moment) -%}
    cast(to_utc_timestamp({{ moment }}, current_timezone()) as date)
{%- endmacro %}

{% macro fabric__utc_day(moment) -%}
    cast({{ moment }} as date)
{%- endmacro %}


{#- Seconds from one moment to another, with their fraction: negative where the second is earlier, NULL where one is.
    Snowflake's and T-SQL's datediff(second) counts seconds that begin, and is off by up to one: so microseconds. -#}
{% macro seconds_between(start, end) -%}
    {{ return(adapter.dispatch('seconds_between', 'shared')(start, end)) }}
{%- endmacro %}

{% macro default__seconds_between(start, end) -%}
    cast(extract(epoch from ({{ end }} - {{ start }})) as double precision)
{%- endmacro %}

{% macro duckdb__seconds_between(start, end) -%}
    (epoch_us({{ end }}) - epoch_us({{ start }})) / 1000000.0::double
{%- endmacro %}

{% macro snowflake__seconds_between(start, end) -%}
    cast(timestampdiff(microsecond, {{ start }}, {{ end }}) as double) / 1000000
{%- endmacro %}

{% macro bigquery__seconds_between(start, end) -%}
    timestamp_diff({{ end }}, {{ start }}, microsecond) / 1000000
{%- endmacro %}

{% macro databricks__seconds_between(start, end) -%}
    cast(unix_micros({{ end }}) - unix_micros({{ start }}) as double) / 1000000
{%- endmacro %}

{% macro fabric__seconds_between(start, end) -%}
    cast(datediff_big(microsecond, {{ start }}, {{ end }}) as float) / 1000000
{%- endmacro %}


{#- The day that a spreadsheet's serial number stands for; the fraction, the time of day, is left out.
    system 1900: Excel's default. Day 1 is 1900-01-01, and day 60 is 1900-02-29, which never was: it gives NULL. So days
        1 to 59 count from 1899-12-31, and those from 61 on from 1899-12-30.
    system 1904: Excel's other one. Day 0 is 1904-01-01.
    system 'sheets': Google Sheets. Day 0 is 1899-12-30, and there is no false leap day.
    Facts: Microsoft, "Differences between the 1900 and the 1904 date system in Excel" and "Excel incorrectly assumes that
    the year 1900 is a leap year"; Google, Sheets API, "DateTimeRenderOption". -#}
{% macro serial_date(number, system=1900) -%}
    {%- set whole = 'floor(' ~ number ~ ')' -%}
    {%- if system == 1900 -%}
    case
        when {{ whole }} >= 61 then {{ shared.add_days("cast('1899-12-30' as date)", whole) }}
        when {{ whole }} between 1 and 59 then {{ shared.add_days("cast('1899-12-31' as date)", whole) }}
    end
    {%- elif system == 1904 -%}
    case when {{ whole }} >= 0 then {{ shared.add_days("cast('1904-01-01' as date)", whole) }} end
    {%- elif system == 'sheets' -%}
    {{ shared.add_days("cast('1899-12-30' as date)", whole) }}
    {%- else -%}
    {{ exceptions.raise_compiler_error("serial_date: the system is 1900, 1904 or 'sheets', not " ~ system) }}
    {%- endif -%}
{%- endmacro %}


{#- A query of every day from the first to the last, both included, as the column `day`. `bounds` names something with
    one row and the columns `first_day` and `last_day`; no day where one of them is NULL, and at most 100,000. The same
    SQL everywhere: what is tested on one warehouse holds on the others. -#}
{% macro day_spine(bounds) -%}
    {%- set digits -%}
(select 0 as d{% for digit in range(1, 10) %} union all select {{ digit }}{% endfor %})
    {%- endset -%}
    {%- set number = 'd0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d' -%}
    select {{ shared.add_days('bounds.first_day', number) }} as day
    from {{ bounds }} as bounds
    {%- for place in range(5) %}
    cross join {{ digits }} as d{{ place }}
    {%- endfor %}
    where {{ shared.add_days('bounds.first_day', number) }} <= bounds.last_day
{%- endmacro %}


{#- The moment so many seconds after the beginning of 1970, in UTC. -#}
{% macro moment_of(seconds) -%}
    {{ return(adapter.dispatch('moment_of', 'shared')(seconds)) }}
{%- endmacro %}

{% macro default__moment_of(seconds) -%}
    to_timestamp({{ seconds }})
{%- endmacro %}

{% macro snowflake__moment_of(seconds) -%}
    to_timestamp_ltz(cast(cast({{ seconds }} as double) * 1000000 as bigint), 6)
{%- endmacro %}

{% macro bigquery__moment_of(seconds) -%}
    timestamp_micros(cast(cast({{ seconds }} as float64) * 1000000 as int64))
{%- endmacro %}

{% macro databricks__moment_of(seconds) -%}
    timestamp_micros(cast(cast({{ seconds }} as double) * 1000000 as bigint))
{%- endmacro %}

{% macro fabric__moment_of(seconds) -%}
    dateadd(second, cast(floor({{ seconds }}) as int), cast('1970-01-01' as datetime2(6)))
{%- endmacro %}
