with bounds as (

    select min(placed_on) as first_day, max(placed_on) as last_day
    from [unset].[analytics_marts].[fct_orders]

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
        placed_on,
        count(*) as orders,
        count(distinct customer_id) as customers,
        sum(revenue) as revenue
    from [unset].[analytics_marts].[fct_orders]
    group by placed_on

)

select
    days.day,
    coalesce(totals.orders, 0) as orders,
    coalesce(totals.customers, 0) as customers,
    cast(coalesce(totals.revenue, 0) as decimal(18, 2)) as revenue
from days
left join totals on totals.placed_on = days.day
