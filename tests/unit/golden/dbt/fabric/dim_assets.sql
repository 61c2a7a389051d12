select
    asset_id,
    asset_name,
    asset_type,
    integration,
    cast(created_at as date) as created_on,
    cast(updated_at as date) as updated_on
from [unset].[analytics_staging].[stg_orchestra__assets]
