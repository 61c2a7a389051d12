select
    id as customer_id,
    name as customer_name,
    country,
    born as born_on,
    vip as is_vip,
    {{ json_field('settings', 'theme') }} as theme,
    created_at,
    updated_at
from {{ source('shop', 'shop__customers') }}
