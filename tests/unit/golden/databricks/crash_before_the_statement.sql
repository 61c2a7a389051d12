select distinct run, token, host, pid from `lake`.`raw`.`_runner_leases`;

select token from `lake`.`raw`.`_runner_leases` group by token having max(expires_at) < unix_millis(current_timestamp()) / 1000D limit 1;

insert into `lake`.`raw`.`_runner_leases` (table_name, run, token, host, pid, expires_at) values ('events', 'run-2', 'token-2', 'other', 2, unix_millis(current_timestamp()) / 1000D + 60) ;

select table_name, token, min(expires_at) from `lake`.`raw`.`_runner_leases` where table_name in ('events') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D;

select table_name, load_id, statement, history from `lake`.`raw`.`_runner_intents` i where table_name in ('events') and not exists (select 1 from `lake`.`raw`.`_dlt_loads` l where l.load_id = i.load_id);

alter table `lake`.`raw`.`events` set tblproperties ('orchestra_runner.completed' = 'load-2 unique3');

select table_name, token, min(expires_at) from `lake`.`raw`.`_runner_leases` where table_name in ('events') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D;

copy into `lake`.`raw`.`events` from (select cast(`shop` as STRING) as `shop`, cast(`id` as BIGINT) as `id`, cast(`total` as DECIMAL(10,2)) as `total`, cast(`updated_at` as TIMESTAMP) as `updated_at`, cast(`deleted_at` as TIMESTAMP_NTZ) as `deleted_at` from '/Volumes/lake/raw/_runner_files/_runner_stage_609f04e5b5c38c24') fileformat = parquet files = ('unique2.parquet');

select 1 from `lake`.`raw`.`_runner_state` where load_id = 'load-2';

insert into `lake`.`raw`.`_runner_state` (table_name, seq, source, source_table, job, run, mode, cursor_column, mark, load_id, digest, row_count, hash, source_token, key_columns, published_at) values ('events', 2, 'shop_pg', 'public.events', 'shop', 'run-1', 'append', 'updated_at', '2024', 'load-2', 'digest', 3, null, null, '', unix_millis(current_timestamp()) / 1000D);

insert into `lake`.`raw`.`_dlt_loads` values ('load-2', 'raw', 0, current_timestamp(), null);

delete from `lake`.`raw`.`_runner_intents` where load_id = 'load-2';

delete from `lake`.`raw`.`_runner_plans` where table_name = 'events';

drop table if exists `lake`.`raw`.`_runner_stage_609f04e5b5c38c24`;

list '/Volumes/lake/raw/_runner_files/_runner_stage_609f04e5b5c38c24';

remove '/Volumes/lake/raw/_runner_files/_runner_stage_609f04e5b5c38c24/unique2.parquet';

