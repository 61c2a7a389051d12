select
    pipeline_run_id,
    pipeline_id,
    pipeline_name,
    environment_name,
    run_status,
    {{ flag("run_status in ('CREATED', 'QUEUED', 'RUNNING', 'CANCELLING')") }} as is_unfinished,
    {{ flag("run_status = 'FAILED'") }} as is_failed,
    message,
    branch,
    created_at,
    {{ utc_day('created_at') }} as created_on,
    started_at,
    completed_at,
    {{ seconds_between('created_at', 'started_at') }} as queued_seconds,
    {{ seconds_between('started_at', 'completed_at') }} as run_seconds,
    changed_at
from {{ ref('stg_orchestra__pipeline_runs') }}
