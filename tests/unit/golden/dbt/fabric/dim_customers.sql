select
    customers.customer_id,
    customers.customer_name,
    customers.country,
    customers.born_on,
    customers.is_vip,
    customers.theme,
    customers.created_at,
    coalesce(orders.orders, 0) as orders,
    coalesce(orders.returned_orders, 0) as returned_orders,
    cast(coalesce(orders.revenue, 0) as decimal(18, 2)) as revenue,
    orders.first_order_on,
    orders.last_order_on
from [unset].[analytics_staging].[stg_shop__customers] as customers
left join [unset].[analytics_intermediate].[int_shop__customer_orders] as orders on orders.customer_id = customers.customer_id
