with operations as (

    select
        integration,
        operation_type,
        cast(inserted_at as date) as day,
        operation_status,
        duration_seconds,
        rows_affected
    from [unset].[analytics_staging].[stg_orchestra__operations]

)

select
    
    lower(convert(varchar(50), hashbytes('md5', coalesce(convert(varchar(max), concat(coalesce(replace(replace(cast(integration as VARCHAR(MAX)), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast(operation_type as VARCHAR(MAX)), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast(day as VARCHAR(MAX)), '~', '~~'), '|', '~p'), '~n'))), '')), 2))
 as operation_day_key,
    integration,
    operation_type,
    day,
    count(*) as operations,
    count(case when operation_status = 'FAILED' then 1 end) as failed_operations,
    sum(duration_seconds) as seconds,
    cast(sum(rows_affected) as bigint) as rows_affected
from operations
group by integration, operation_type, day
