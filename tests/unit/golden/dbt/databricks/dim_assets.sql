select
    asset_id,
    asset_name,
    asset_type,
    integration,
    cast(to_utc_timestamp(created_at, current_timezone()) as date) as created_on,
    cast(to_utc_timestamp(updated_at, current_timezone()) as date) as updated_on
from `unset`.`analytics_staging`.`stg_orchestra__assets`
