select
    asset_id,
    asset_name,
    asset_type,
    integration,
    created_at,
    updated_at
from {{ source('orchestra', 'assets') }}
