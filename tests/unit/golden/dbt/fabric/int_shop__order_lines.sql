with priced as (

    select
        items.order_line_key,
        items.order_id,
        items.line_number,
        items.product_id,
        items.quantity,
        items.unit_price,
        items.discount,
        items.quantity * items.unit_price as gross_amount,
        items.quantity * items.unit_price * (1 - items.discount) as net_amount
    from [unset].[analytics_staging].[stg_shop__order_items] as items

)

select
    priced.order_line_key,
    priced.order_id,
    priced.line_number,
    priced.product_id,
    products.product_title,
    orders.customer_id,
    orders.placed_on,
    orders.status as order_status,
    priced.quantity,
    priced.unit_price,
    priced.discount,
    cast(priced.gross_amount as decimal(18, 2)) as gross_amount,
    cast(priced.net_amount as decimal(18, 2)) as net_amount
from priced
left join [unset].[analytics_staging].[stg_shop__orders] as orders on orders.order_id = priced.order_id
left join [unset].[analytics_staging].[stg_shop__products] as products on products.product_id = priced.product_id
