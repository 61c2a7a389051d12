{#- For the tests of macros: they need no table, and so run on every warehouse. -#}

{#- A query of the cases that are wrong. Each is a list: what it shows, the SQL of what is, the SQL of what should be. -#}
{% macro wrong_cases(cases) -%}
select cases.about, cases.found, cases.wanted
from (
{%- for about, found, wanted in cases %}
    {% if not loop.first %}union all {% endif -%}
    select '{{ about }}' as about, {{ found }} as found, {{ wanted }} as wanted
{%- endfor %}
) as cases
where cases.found <> cases.wanted
    or (cases.found is null and cases.wanted is not null)
    or (cases.found is not null and cases.wanted is null)
{%- endmacro %}

{% macro day(text) -%}
    cast({{ "'" ~ text ~ "'" if text else 'null' }} as date)
{%- endmacro %}

{#- A moment, given in UTC as 2024-01-31 23:59:59.5. -#}
{% macro moment(text) -%}
    {{ return(adapter.dispatch('moment', 'shared')(text)) }}
{%- endmacro %}

{% macro default__moment(text) -%}
    cast({{ "'" ~ text ~ "+00:00'" if text else 'null' }} as timestamp with time zone)
{%- endmacro %}

{% macro snowflake__moment(text) -%}
    cast({{ "'" ~ text ~ " +00:00'" if text else 'null' }} as timestamp_tz)
{%- endmacro %}

{% macro bigquery__moment(text) -%}
    cast({{ "'" ~ text ~ "+00:00'" if text else 'null' }} as timestamp)
{%- endmacro %}

{% macro databricks__moment(text) -%}
    cast({{ "'" ~ text ~ "+00:00'" if text else 'null' }} as timestamp)
{%- endmacro %}

{% macro fabric__moment(text) -%}
    cast({{ "'" ~ text ~ "'" if text else 'null' }} as datetime2(6))
{%- endmacro %}

{#- A document as the loader's columns hold it. -#}
{% macro json(text) -%}
    {{ return(adapter.dispatch('json', 'shared')(text)) }}
{%- endmacro %}

{% macro default__json(text) -%}
    cast('{{ text }}' as varchar(8000))
{%- endmacro %}

{% macro duckdb__json(text) -%}
    cast('{{ text }}' as json)
{%- endmacro %}

{% macro postgres__json(text) -%}
    cast('{{ text }}' as jsonb)
{%- endmacro %}

{% macro snowflake__json(text) -%}
    parse_json('{{ text }}')
{%- endmacro %}

{% macro bigquery__json(text) -%}
    parse_json('{{ text }}')
{%- endmacro %}

{% macro databricks__json(text) -%}
    '{{ text }}'
{%- endmacro %}
