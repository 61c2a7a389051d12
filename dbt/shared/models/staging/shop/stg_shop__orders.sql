select
    id as order_id,
    customer_id,
    status,
    placed_at,
    cast(placed_at as date) as placed_on,
    total,
    {{ decimal("case when status = 'returned' then 0 else total end", 2) }} as revenue,
    note,
    updated_at
from {{ source('shop', 'shop__orders') }}
