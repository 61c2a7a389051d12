select
    id as product_id,
    sku,
    title as product_title,
    price as list_price,
    updated_at
from [unset].[raw_shop].[shop__products]
