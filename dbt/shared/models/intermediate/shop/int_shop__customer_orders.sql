select
    customer_id,
    count(*) as orders,
    sum(case when is_returned = {{ flag('1 = 1') }} then 1 else 0 end) as returned_orders,
    sum(case when is_returned = {{ flag('1 = 1') }} then 0 else total end) as revenue,
    min(placed_on) as first_order_on,
    max(placed_on) as last_order_on
from {{ ref('stg_shop__orders') }}
group by customer_id
