with bounds as (

    select min(created_on) as first_day, max(created_on) as last_day
    from `unset`.`analytics_marts`.`fct_pipeline_runs`

),

days as (

    select date_add(bounds.first_day, cast(d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d as int)) as day
    from bounds as bounds
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d0
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d1
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d2
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d3
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d4
    where date_add(bounds.first_day, cast(d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d as int)) <= bounds.last_day

),

totals as (

    select
        pipeline_id,
        created_on,
        count(*) as runs,
        count(case when is_failed = coalesce(1 = 1, false) then 1 end) as failed_runs,
        count(case when is_unfinished = coalesce(1 = 1, false) then 1 end) as unfinished_runs,
        avg(run_seconds) as mean_run_seconds,
        max(run_seconds) as longest_run_seconds
    from `unset`.`analytics_marts`.`fct_pipeline_runs`
    group by pipeline_id, created_on

)

select
    md5(cast(concat(coalesce(replace(replace(cast(pipelines.pipeline_id as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast(days.day as string), '~', '~~'), '|', '~p'), '~n')) as string)) as pipeline_day_key,
    pipelines.pipeline_id,
    pipelines.pipeline_name,
    days.day,
    coalesce(totals.runs, 0) as runs,
    coalesce(totals.failed_runs, 0) as failed_runs,
    coalesce(totals.unfinished_runs, 0) as unfinished_runs,
    totals.mean_run_seconds,
    totals.longest_run_seconds
from `unset`.`analytics_staging`.`stg_orchestra__pipelines` as pipelines
cross join days
left join totals on totals.pipeline_id = pipelines.pipeline_id and totals.created_on = days.day
