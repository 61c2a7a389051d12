select
    asset_id,
    asset_name,
    asset_type,
    integration,
    {{ utc_day('created_at') }} as created_on,
    {{ utc_day('updated_at') }} as updated_on
from {{ ref('stg_orchestra__assets') }}
