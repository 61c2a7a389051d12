select
    task_run_id,
    pipeline_run_id,
    pipeline_id,
    task_id,
    task_name,
    integration,
    integration_job,
    task_status,
    cast(case when task_status = 'FAILED' then 1 else 0 end as bit) as is_failed,
    message,
    number_of_attempts,
    created_at,
    cast(created_at as date) as created_on,
    started_at,
    completed_at,
    cast(datediff_big(microsecond, started_at, completed_at) as float) / 1000000 as run_seconds,
    changed_at
from [unset].[analytics_staging].[stg_orchestra__task_runs]
