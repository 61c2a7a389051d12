-- A deterministic shop: more than 200 tables, about two million rows, made in the server in seconds.
-- :scale is replaced by a number; 1 is the whole shop, 0.01 a small one for tests.
create schema shop;
create schema ops;
create schema "Back Office";

create type shop.status as enum ('new', 'paid', 'shipped', 'returned', 'Größe unbekannt');
create domain shop.email as text check (value like '%@%');
create domain shop.price as numeric(12, 2);

create table shop.customers (
    id bigint primary key,
    name text not null,
    email shop.email not null,
    country char(2) not null,
    born date,
    vip boolean not null,
    settings jsonb not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
comment on table shop.customers is 'One row a customer';
comment on column shop.customers.email is 'Personal data';
insert into shop.customers
select i, 'Customer ' || i, 'c' || i || '@example.org', (array['DE','FR','GB','US','JP'])[1 + i % 5],
       date '1950-01-01' + (i * 7919 % 20000), i % 50 = 0,
       jsonb_build_object('theme', case when i % 2 = 0 then 'dark' else 'light' end, 'n', i % 10),
       timestamptz '2023-01-01 00:00:00+00' + make_interval(secs => i * 60),
       timestamptz '2024-01-01 00:00:00+00' + make_interval(secs => i * 61)
from generate_series(1, greatest(10, (100000 * :scale)::int)) i;
create index on shop.customers (updated_at);

create table shop.products (
    id int primary key, sku uuid not null, title text not null, price shop.price not null,
    weight real, tags text[] not null, description text, picture bytea, updated_at timestamptz not null
);
insert into shop.products
select i, md5('sku' || i)::uuid, 'Product ' || i || case when i % 3 = 0 then E' "quoted", with\nnew line' else '' end,
       (i * 37 % 100000) / 100.0, i / 7.0, array['tag' || i % 5, 'a,b', 'c"d'],
       case i % 4 when 0 then null when 1 then '' else repeat('long text ', 5) end,
       decode(md5(i::text), 'hex'), timestamptz '2024-06-01 00:00:00+00' + make_interval(secs => i)
from generate_series(1, greatest(10, (5000 * :scale)::int)) i;
create index on shop.products (updated_at);

create table shop.orders (
    id bigint primary key, customer_id bigint not null, status shop.status not null, placed_at timestamp not null,
    total numeric(14, 2) not null, note text, updated_at timestamptz not null
);
insert into shop.orders
select i, 1 + i * 31 % greatest(10, (100000 * :scale)::int), (enum_range(null::shop.status))[1 + i % 5],
       timestamp '2024-01-01 00:00:00' + make_interval(secs => i * 17), (i::bigint * 7919 % 1000000) / 100.0,
       case when i % 10 = 0 then 'note ' || i end,
       timestamptz '2024-02-01 00:00:00+00' + make_interval(secs => i * 17)
from generate_series(1, greatest(20, (300000 * :scale)::int)) i;
create index on shop.orders (updated_at);

create table shop.order_items (
    order_id bigint not null, line int not null, product_id int not null, quantity smallint not null,
    price numeric(12, 2) not null, discount double precision not null, primary key (order_id, line)
);
insert into shop.order_items
select 1 + i / 3, 1 + i % 3, 1 + i % greatest(10, (5000 * :scale)::int), 1 + i % 9, (i % 10000) / 100.0, (i % 7) / 10.0
from generate_series(0, greatest(50, (800000 * :scale)::int) - 1) i;

create table shop.page_views (
    at timestamptz not null, visitor uuid not null, path text not null, milliseconds int, agent text
) partition by range (at);
comment on table shop.page_views is 'Partitioned by month; it has no key';
do $$
begin
    for month in 1..12 loop
        execute format('create table shop.page_views_%s partition of shop.page_views for values from (%L) to (%L)',
            to_char(month, 'FM00'), make_date(2024, month, 1), (make_date(2024, month, 1) + interval '1 month')::date);
    end loop;
end $$;
insert into shop.page_views
select timestamptz '2024-01-01 00:00:00+00' + make_interval(secs => i * (31000000.0 / greatest(50, 400000 * :scale))),
       md5('v' || i % 9973)::uuid, '/p/' || i % 500, i * 13 % 4000, case when i % 100 = 0 then null else 'Mozilla/5.0' end
from generate_series(1, greatest(50, (400000 * :scale)::int)) i;

create table shop.every_type (
    id serial primary key, a_bool boolean, a_int2 smallint, a_int4 integer, a_int8 bigint, a_float4 real,
    a_float8 double precision, a_numeric numeric(20, 6), a_wide_numeric numeric(38, 10), a_free_numeric numeric,
    a_money money, a_text text, a_varchar varchar(20), a_char char(5), a_bytea bytea, a_date date, a_time time,
    a_timetz timetz, a_timestamp timestamp, a_timestamptz timestamptz, a_interval interval, a_uuid uuid, a_json json,
    a_jsonb jsonb, an_int_array int[], a_text_array text[], a_range int4range, a_status shop.status,
    a_email shop.email, an_inet inet, a_cidr cidr, a_macaddr macaddr, a_bit bit(4), a_point point, a_tsvector tsvector,
    "select" text, "Mixed Case" text, "with ""quotes""" text
);
insert into shop.every_type
select i, i % 2 = 0, (i % 100)::smallint, -i, i::bigint * 1000000007, i / 3.0, i / 7.0, i / 9.0, i * 12345.678901,
       i / 11.0, (i * 1.5)::numeric::money, 'Ünïcödé 🚀 ' || i, 'v' || i, 'c' || i % 10, decode(md5(i::text), 'hex'),
       date '2000-02-29' + i, time '00:00:00' + make_interval(secs => i), timetz '12:00:00+02',
       timestamp '1999-12-31 23:59:59.999999' + make_interval(days => i),
       timestamptz '1999-12-31 23:59:59.999999+00' + make_interval(days => i), make_interval(days => i, secs => 1.5),
       md5(i::text)::uuid, ('{"a": ' || i || ', "b": [1, null]}')::json, jsonb_build_object('k', i),
       array[i, null, -i], array['x', 'y,"z"', null], int4range(i, i + 10), (enum_range(null::shop.status))[1 + i % 5],
       'e' || i || '@x.org', '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', (i % 16)::bit(4), point(i, -i),
       to_tsvector('simple', 'word' || i), case i % 3 when 0 then null when 1 then '' else 'reserved' end, 'm', 'q'
from generate_series(1, 1000) i;
insert into shop.every_type (id) values (0);

create table shop.empty (id int primary key, note text);
create view shop.big_orders as select * from shop.orders where total > 5000;
create materialized view shop.daily_totals as
select placed_at::date as day, count(*) as orders, sum(total) as total from shop.orders group by 1;

create table "Back Office"."Price List 2024" ("Product No" int primary key, "Net Price" numeric(10, 2), "order" text);
insert into "Back Office"."Price List 2024" select i, i * 1.19, 'o' || i from generate_series(1, 500) i;
create table "Back Office".staff (id int primary key, full_name text not null, salary numeric(10, 2));
comment on column "Back Office".staff.salary is 'Not for the warehouse';
insert into "Back Office".staff select i, 'Person ' || i, 3000 + i from generate_series(1, 200) i;

-- Many small tables of the kinds that every company has.
do $$
declare
    rows int;
begin
    for n in 1..200 loop
        rows := case when n % 40 = 0 then 0 else 10 + (n * 7919 % 3800 * greatest(0.02, :scale))::int end;
        execute format('create table ops.store_%s (id int primary key, item text not null, stock int not null,
            price numeric(10, 2) not null, checked date, shelf jsonb, updated_at timestamptz not null)', to_char(n, 'FM000'));
        execute format('insert into ops.store_%s select i, ''item '' || i, i * %s %% 100, i / 3.0, date ''2024-01-01'' + i %% 365,
            jsonb_build_object(''row'', i %% 10), timestamptz ''2024-01-01 00:00:00+00'' + make_interval(secs => i)
            from generate_series(1, %s) i', to_char(n, 'FM000'), n, rows);
        execute format('create index on ops.store_%s (updated_at)', to_char(n, 'FM000'));
    end loop;
end $$;
analyze;
