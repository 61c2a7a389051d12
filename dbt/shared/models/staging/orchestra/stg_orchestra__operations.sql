select
    id as operation_id,
    pipeline_run_id,
    task_run_id,
    operation_name,
    operation_type,
    operation_status,
    integration,
    inserted_at,
    operation_duration as duration_seconds,
    rows_affected
from {{ source('orchestra', 'operations') }}
