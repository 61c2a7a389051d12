select
    pipeline_run_id,
    pipeline_id,
    pipeline_name,
    environment_name,
    run_status,
    coalesce(run_status in ('CREATED', 'QUEUED', 'RUNNING', 'CANCELLING'), false) as is_unfinished,
    coalesce(run_status = 'FAILED', false) as is_failed,
    message,
    branch,
    created_at,
    cast(to_utc_timestamp(created_at, current_timezone()) as date) as created_on,
    started_at,
    completed_at,
    cast(unix_micros(started_at) - unix_micros(created_at) as double) / 1000000 as queued_seconds,
    cast(unix_micros(completed_at) - unix_micros(started_at) as double) / 1000000 as run_seconds,
    changed_at
from `unset`.`analytics_staging`.`stg_orchestra__pipeline_runs`
