select
    {{ surrogate_key(['order_id', 'line']) }} as order_line_key,
    order_id,
    line as line_number,
    product_id,
    quantity,
    price as unit_price,
    {{ decimal('discount', 4) }} as discount
from {{ source('shop', 'shop__order_items') }}
