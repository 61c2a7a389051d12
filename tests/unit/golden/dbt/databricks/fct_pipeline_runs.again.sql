select
    runs.pipeline_run_id,
    runs.pipeline_id,
    runs.pipeline_name,
    runs.environment_name,
    runs.run_status,
    runs.is_unfinished,
    runs.is_failed,
    runs.message,
    runs.branch,
    runs.created_at,
    runs.created_on,
    runs.started_at,
    runs.completed_at,
    runs.queued_seconds,
    runs.run_seconds,
    runs.changed_at
from `unset`.`analytics_intermediate`.`int_orchestra__pipeline_runs` as runs
where not exists (
        select 1
        from `unset`.`analytics_marts`.`fct_pipeline_runs` as known
        where known.pipeline_run_id = runs.pipeline_run_id and known.changed_at = runs.changed_at
    )
