select
    
    lower(convert(varchar(50), hashbytes('md5', coalesce(convert(varchar(max), concat(coalesce(replace(replace(cast(order_id as VARCHAR(MAX)), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast(line as VARCHAR(MAX)), '~', '~~'), '|', '~p'), '~n'))), '')), 2))
 as order_line_key,
    order_id,
    line as line_number,
    product_id,
    quantity,
    price as unit_price,
    cast(discount as decimal(18, 4)) as discount
from [unset].[raw_shop].[shop__order_items]
