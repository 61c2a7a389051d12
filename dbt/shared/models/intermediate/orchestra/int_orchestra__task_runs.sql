select
    task_run_id,
    pipeline_run_id,
    pipeline_id,
    task_id,
    task_name,
    integration,
    integration_job,
    task_status,
    {{ flag("task_status = 'FAILED'") }} as is_failed,
    message,
    number_of_attempts,
    created_at,
    {{ utc_day('created_at') }} as created_on,
    started_at,
    completed_at,
    {{ seconds_between('started_at', 'completed_at') }} as run_seconds,
    changed_at
from {{ ref('stg_orchestra__task_runs') }}
