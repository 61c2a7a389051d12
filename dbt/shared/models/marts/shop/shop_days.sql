with bounds as (

    select min(placed_on) as first_day, max(placed_on) as last_day
    from {{ ref('fct_orders') }}

),

days as (

    {{ day_spine('bounds') }}

),

totals as (

    select
        placed_on,
        count(*) as orders,
        count(distinct customer_id) as customers,
        sum(revenue) as revenue
    from {{ ref('fct_orders') }}
    group by placed_on

)

select
    days.day,
    coalesce(totals.orders, 0) as orders,
    coalesce(totals.customers, 0) as customers,
    {{ decimal('coalesce(totals.revenue, 0)', 2) }} as revenue
from days
left join totals on totals.placed_on = days.day
