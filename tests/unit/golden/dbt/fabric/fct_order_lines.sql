select
    order_line_key,
    order_id,
    line_number,
    product_id,
    product_title,
    customer_id,
    placed_on,
    order_status,
    quantity,
    unit_price,
    discount,
    gross_amount,
    net_amount
from [unset].[analytics_intermediate].[int_shop__order_lines]
