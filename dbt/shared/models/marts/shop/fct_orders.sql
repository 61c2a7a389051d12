{{ config(materialized='incremental', unique_key='order_id', on_schema_change='fail') }}

select
    orders.order_id,
    orders.customer_id,
    orders.status,
    orders.placed_at,
    orders.placed_on,
    orders.total,
    orders.revenue,
    orders.note,
    orders.updated_at
from {{ ref('stg_shop__orders') }} as orders
{{ only_changed('orders', key='order_id', moment='updated_at') }}
