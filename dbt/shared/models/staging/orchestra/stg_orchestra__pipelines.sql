select
    id as pipeline_id,
    name as pipeline_name,
    alias as pipeline_alias,
    paused as is_paused,
    product_name,
    created_at,
    updated_at
from {{ source('orchestra', 'pipelines') }}
