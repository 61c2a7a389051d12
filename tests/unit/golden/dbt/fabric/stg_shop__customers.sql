select
    id as customer_id,
    name as customer_name,
    country,
    born as born_on,
    vip as is_vip,
    json_value(settings, '$."theme"') as theme,
    created_at,
    updated_at
from [unset].[raw_shop].[shop__customers]
