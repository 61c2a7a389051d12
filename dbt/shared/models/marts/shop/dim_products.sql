with sold as (

    select
        product_id,
        sum(quantity) as units_sold,
        sum(net_amount) as net_amount
    from {{ ref('int_shop__order_lines') }}
    group by product_id

)

select
    products.product_id,
    products.sku,
    products.product_title,
    products.list_price,
    cast(coalesce(sold.units_sold, 0) as {{ dbt.type_bigint() }}) as units_sold,
    {{ decimal('coalesce(sold.net_amount, 0)', 2) }} as net_amount
from {{ ref('stg_shop__products') }} as products
left join sold on sold.product_id = products.product_id
