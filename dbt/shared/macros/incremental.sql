{#- The condition of an incremental model that takes the rows that it does not have, and those that changed.
    Compared are key and moment of every row, not a high-water mark: a row that was loaded late, or again from long ago,
    is taken too. Only these two columns of the table are read for it, and only what changed is written.
    `of` is the alias of what is selected from. -#}
{% macro only_changed(of, key, moment) -%}
    {%- if is_incremental() -%}
    where not exists (
        select 1
        from {{ this }} as known
        where known.{{ key }} = {{ of }}.{{ key }} and known.{{ moment }} = {{ of }}.{{ moment }}
    )
    {%- endif -%}
{%- endmacro %}
