{#- No value of a column is below a bound. NULL passes: not_null is a test of its own. -#}
{% test at_least(model, column_name, minimum) %}
select {{ column_name }}
from {{ model }}
where {{ column_name }} < {{ minimum }}
{% endtest %}
