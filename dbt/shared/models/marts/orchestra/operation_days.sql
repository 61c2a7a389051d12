with operations as (

    select
        integration,
        operation_type,
        {{ utc_day('inserted_at') }} as day,
        operation_status,
        duration_seconds,
        rows_affected
    from {{ ref('stg_orchestra__operations') }}

)

select
    {{ surrogate_key(['integration', 'operation_type', 'day']) }} as operation_day_key,
    integration,
    operation_type,
    day,
    count(*) as operations,
    count(case when operation_status = 'FAILED' then 1 end) as failed_operations,
    sum(duration_seconds) as seconds,
    cast(sum(rows_affected) as {{ dbt.type_bigint() }}) as rows_affected
from operations
group by integration, operation_type, day
