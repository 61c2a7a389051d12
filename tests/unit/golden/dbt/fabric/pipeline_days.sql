with bounds as (

    select min(created_on) as first_day, max(created_on) as last_day
    from [unset].[analytics_marts].[fct_pipeline_runs]

),

days as (

    select dateadd(day, cast(d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d as int), bounds.first_day) as day
    from bounds as bounds
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d0
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d1
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d2
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d3
    cross join (select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9) as d4
    where dateadd(day, cast(d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d + 10000 * d4.d as int), bounds.first_day) <= bounds.last_day

),

totals as (

    select
        pipeline_id,
        created_on,
        count(*) as runs,
        count(case when is_failed = cast(case when 1 = 1 then 1 else 0 end as bit) then 1 end) as failed_runs,
        count(case when is_unfinished = cast(case when 1 = 1 then 1 else 0 end as bit) then 1 end) as unfinished_runs,
        avg(run_seconds) as mean_run_seconds,
        max(run_seconds) as longest_run_seconds
    from [unset].[analytics_marts].[fct_pipeline_runs]
    group by pipeline_id, created_on

)

select
    
    lower(convert(varchar(50), hashbytes('md5', coalesce(convert(varchar(max), concat(coalesce(replace(replace(cast(pipelines.pipeline_id as VARCHAR(MAX)), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast(days.day as VARCHAR(MAX)), '~', '~~'), '|', '~p'), '~n'))), '')), 2))
 as pipeline_day_key,
    pipelines.pipeline_id,
    pipelines.pipeline_name,
    days.day,
    coalesce(totals.runs, 0) as runs,
    coalesce(totals.failed_runs, 0) as failed_runs,
    coalesce(totals.unfinished_runs, 0) as unfinished_runs,
    totals.mean_run_seconds,
    totals.longest_run_seconds
from [unset].[analytics_staging].[stg_orchestra__pipelines] as pipelines
cross join days
left join totals on totals.pipeline_id = pipelines.pipeline_id and totals.created_on = days.day
