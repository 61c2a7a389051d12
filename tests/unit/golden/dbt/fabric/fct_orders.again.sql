select
    orders.order_id,
    orders.customer_id,
    orders.status,
    orders.placed_at,
    orders.placed_on,
    orders.total,
    orders.revenue,
    orders.note,
    orders.updated_at
from [unset].[analytics_staging].[stg_shop__orders] as orders
where not exists (
        select 1
        from [unset].[analytics_marts].[fct_orders] as known
        where known.order_id = orders.order_id and known.updated_at = orders.updated_at
    )
