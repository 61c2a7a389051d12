{#- A model has as many rows as what it is made of: a join has lost or repeated none. -#}
{% test as_many_rows_as(model, other) %}
select counted.here, counted.there
from (
    select
        (select count(*) from {{ model }}) as here,
        (select count(*) from {{ other }}) as there
) as counted
where counted.here <> counted.there
{% endtest %}
