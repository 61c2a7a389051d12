select
    md5(cast(concat(coalesce(replace(replace(cast(order_id as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast(line as string), '~', '~~'), '|', '~p'), '~n')) as string)) as order_line_key,
    order_id,
    line as line_number,
    product_id,
    quantity,
    price as unit_price,
    cast(discount as decimal(18, 4)) as discount
from `unset`.`raw_shop`.`shop__order_items`
