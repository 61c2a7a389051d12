select
    runs.task_run_id,
    runs.pipeline_run_id,
    runs.pipeline_id,
    runs.task_id,
    runs.task_name,
    runs.integration,
    runs.integration_job,
    runs.task_status,
    runs.is_failed,
    runs.message,
    runs.number_of_attempts,
    runs.created_at,
    runs.created_on,
    runs.started_at,
    runs.completed_at,
    runs.run_seconds,
    runs.changed_at
from [unset].[analytics_intermediate].[int_orchestra__task_runs] as runs
where not exists (
        select 1
        from [unset].[analytics_marts].[fct_task_runs] as known
        where known.task_run_id = runs.task_run_id and known.changed_at = runs.changed_at
    )
