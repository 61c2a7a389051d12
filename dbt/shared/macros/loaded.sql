{#- When the loader last published a table: for the freshness of one that has no time of its own. The loader keeps this in
    its ledger beside the table. -#}
{% macro loaded_at(table) -%}
    select max({{ shared.moment_of('published_at') }}) as loaded_at
    from {{ this.incorporate(path={'identifier': '_runner_state'}) }}
    where table_name = '{{ table }}'
{%- endmacro %}
