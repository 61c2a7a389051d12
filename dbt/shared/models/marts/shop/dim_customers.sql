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
    {{ decimal('coalesce(orders.revenue, 0)', 2) }} as revenue,
    orders.first_order_on,
    orders.last_order_on
from {{ ref('stg_shop__customers') }} as customers
left join {{ ref('int_shop__customer_orders') }} as orders on orders.customer_id = customers.customer_id
