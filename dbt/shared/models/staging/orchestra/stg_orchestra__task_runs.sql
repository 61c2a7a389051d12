select
    id as task_run_id,
    pipeline_run_id,
    pipeline_id,
    task_id,
    task_name,
    integration,
    integration_job,
    status as task_status,
    message,
    number_of_attempts,
    created_at,
    started_at,
    completed_at,
    coalesce(updated_at, created_at) as changed_at
from {{ source('orchestra', 'task_runs') }}
