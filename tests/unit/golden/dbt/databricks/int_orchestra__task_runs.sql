select
    task_run_id,
    pipeline_run_id,
    pipeline_id,
    task_id,
    task_name,
    integration,
    integration_job,
    task_status,
    coalesce(task_status = 'FAILED', false) as is_failed,
    message,
    number_of_attempts,
    created_at,
    cast(to_utc_timestamp(created_at, current_timezone()) as date) as created_on,
    started_at,
    completed_at,
    cast(unix_micros(completed_at) - unix_micros(started_at) as double) / 1000000 as run_seconds,
    changed_at
from `unset`.`analytics_staging`.`stg_orchestra__task_runs`
