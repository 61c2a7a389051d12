with sold as (

    select
        product_id,
        sum(quantity) as units_sold,
        sum(net_amount) as net_amount
    from [unset].[analytics_intermediate].[int_shop__order_lines]
    group by product_id

)

select
    products.product_id,
    products.sku,
    products.product_title,
    products.list_price,
    cast(coalesce(sold.units_sold, 0) as bigint) as units_sold,
    cast(coalesce(sold.net_amount, 0) as decimal(18, 2)) as net_amount
from [unset].[analytics_staging].[stg_shop__products] as products
left join sold on sold.product_id = products.product_id
