select
    id as order_id,
    customer_id,
    status,
    placed_at,
    cast(placed_at as date) as placed_on,
    total,
    cast(case when status = 'returned' then 0 else total end as decimal(18, 2)) as revenue,
    note,
    updated_at
from [unset].[raw_shop].[shop__orders]
