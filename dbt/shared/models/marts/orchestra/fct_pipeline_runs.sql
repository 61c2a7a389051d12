{{ config(materialized='incremental', unique_key='pipeline_run_id', on_schema_change='fail') }}

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
from {{ ref('int_orchestra__pipeline_runs') }} as runs
{{ only_changed('runs', key='pipeline_run_id', moment='changed_at') }}
