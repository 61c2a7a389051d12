with bounds as (

    select min(created_on) as first_day, max(created_on) as last_day
    from {{ ref('fct_pipeline_runs') }}

),

days as (

    {{ day_spine('bounds') }}

),

totals as (

    select
        pipeline_id,
        created_on,
        count(*) as runs,
        count(case when is_failed = {{ flag('1 = 1') }} then 1 end) as failed_runs,
        count(case when is_unfinished = {{ flag('1 = 1') }} then 1 end) as unfinished_runs,
        avg(run_seconds) as mean_run_seconds,
        max(run_seconds) as longest_run_seconds
    from {{ ref('fct_pipeline_runs') }}
    group by pipeline_id, created_on

)

select
    {{ surrogate_key(['pipelines.pipeline_id', 'days.day']) }} as pipeline_day_key,
    pipelines.pipeline_id,
    pipelines.pipeline_name,
    days.day,
    coalesce(totals.runs, 0) as runs,
    coalesce(totals.failed_runs, 0) as failed_runs,
    coalesce(totals.unfinished_runs, 0) as unfinished_runs,
    totals.mean_run_seconds,
    totals.longest_run_seconds
from {{ ref('stg_orchestra__pipelines') }} as pipelines
cross join days
left join totals on totals.pipeline_id = pipelines.pipeline_id and totals.created_on = days.day
