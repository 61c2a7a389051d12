select
    customer_id,
    count(*) as orders,
    count(case when status = 'returned' then 1 end) as returned_orders,
    cast(sum(revenue) as decimal(18, 2)) as revenue,
    min(placed_on) as first_order_on,
    max(placed_on) as last_order_on
from [unset].[analytics_staging].[stg_shop__orders]
group by customer_id
