select
    pipeline_run_id,
    pipeline_id,
    pipeline_name,
    environment_name,
    run_status,
    cast(case when run_status in ('CREATED', 'QUEUED', 'RUNNING', 'CANCELLING') then 1 else 0 end as bit) as is_unfinished,
    cast(case when run_status = 'FAILED' then 1 else 0 end as bit) as is_failed,
    message,
    branch,
    created_at,
    cast(created_at as date) as created_on,
    started_at,
    completed_at,
    cast(datediff_big(microsecond, created_at, started_at) as float) / 1000000 as queued_seconds,
    cast(datediff_big(microsecond, started_at, completed_at) as float) / 1000000 as run_seconds,
    changed_at
from [unset].[analytics_staging].[stg_orchestra__pipeline_runs]
