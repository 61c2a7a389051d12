{#- One text that stands for the values of several columns: unlike values give unlike texts, and NULL is no value.
    Each value is spelled with ~~ for ~ and ~p for |, NULL is ~n, and | stands between them: so ('a|b', 'c') and
    ('a', 'b|c') differ, and so do NULL and ''. A number or time is spelled as the warehouse casts it to text. -#}
{% macro key_text(columns) -%}
    {%- set parts = [] -%}
    {%- for column in columns -%}
        {%- if not loop.first %}{% do parts.append("'|'") %}{% endif -%}
        {%- set text = 'cast(' ~ column ~ ' as ' ~ dbt.type_string() ~ ')' -%}
        {%- do parts.append("coalesce(replace(replace(" ~ text ~ ", '~', '~~'), '|', '~p'), '~n')") -%}
    {%- endfor -%}
    {{ dbt.concat(parts) }}
{%- endmacro %}


{#- A key of 32 hexadecimal digits for the values of several columns. -#}
{% macro surrogate_key(columns) -%}
    {{ dbt.hash(shared.key_text(columns)) }}
{%- endmacro %}


{#- A field at the top of a JSON column, as text: of a text, number or boolean. NULL where it is null or not there. -#}
{% macro json_field(column, field) -%}
    {{ return(adapter.dispatch('json_field', 'shared')(column, field)) }}
{%- endmacro %}

{% macro default__json_field(column, field) -%}
    ({{ column }} ->> '{{ field }}')
{%- endmacro %}

{% macro duckdb__json_field(column, field) -%}
    json_extract_string({{ column }}, '$."{{ field }}"')
{%- endmacro %}

{% macro snowflake__json_field(column, field) -%}
    cast({{ column }}:"{{ field }}" as varchar)
{%- endmacro %}

{% macro bigquery__json_field(column, field) -%}
    json_value({{ column }}, '$."{{ field }}"')
{%- endmacro %}

{% macro databricks__json_field(column, field) -%}
    get_json_object({{ column }}, "$['{{ field }}']")
{%- endmacro %}

{% macro fabric__json_field(column, field) -%}
    json_value({{ column }}, '$."{{ field }}"')
{%- endmacro %}


{#- A number with so many digits behind the point, half rounded away from zero. -#}
{% macro decimal(number, digits) -%}
    {{ return(adapter.dispatch('decimal', 'shared')(number, digits)) }}
{%- endmacro %}

{% macro default__decimal(number, digits) -%}
    cast({{ number }} as decimal(18, {{ digits }}))
{%- endmacro %}

{% macro bigquery__decimal(number, digits) -%}
    round(cast({{ number }} as numeric), {{ digits }})
{%- endmacro %}


{#- A condition as a value of a column. T-SQL knows no boolean values. -#}
{% macro flag(condition) -%}
    {{ return(adapter.dispatch('flag', 'shared')(condition)) }}
{%- endmacro %}

{% macro default__flag(condition) -%}
    coalesce({{ condition }}, false)
{%- endmacro %}

{% macro fabric__flag(condition) -%}
    cast(case when {{ condition }} then 1 else 0 end as bit)
{%- endmacro %}
