select
    id as pipeline_run_id,
    pipeline_id,
    pipeline_name,
    env_name as environment_name,
    run_status,
    message,
    branch,
    created_at,
    started_at,
    completed_at,
    coalesce(updated_at, created_at) as changed_at
from `unset`.`orchestra_metadata`.`pipeline_runs`
