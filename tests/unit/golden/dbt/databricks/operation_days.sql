with operations as (

    select
        integration,
        operation_type,
        cast(to_utc_timestamp(inserted_at, current_timezone()) as date) as day,
        operation_status,
        duration_seconds,
        rows_affected
    from `unset`.`analytics_staging`.`stg_orchestra__operations`

)

select
    md5(cast(concat(coalesce(replace(replace(cast(integration as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast(operation_type as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast(day as string), '~', '~~'), '|', '~p'), '~n')) as string)) as operation_day_key,
    integration,
    operation_type,
    day,
    count(*) as operations,
    count(case when operation_status = 'FAILED' then 1 end) as failed_operations,
    sum(duration_seconds) as seconds,
    cast(sum(rows_affected) as bigint) as rows_affected
from operations
group by integration, operation_type, day
