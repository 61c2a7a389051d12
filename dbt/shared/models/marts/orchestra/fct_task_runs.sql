{{ config(materialized='incremental', unique_key='task_run_id', on_schema_change='fail') }}

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
from {{ ref('int_orchestra__task_runs') }} as runs
{{ only_changed('runs', key='task_run_id', moment='changed_at') }}
