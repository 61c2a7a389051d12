select
    id as order_id,
    customer_id,
    status,
    {{ flag("status = 'returned'") }} as is_returned,
    placed_at,
    cast(placed_at as date) as placed_on,
    total,
    note,
    updated_at
from {{ source('shop', 'shop__orders') }}
