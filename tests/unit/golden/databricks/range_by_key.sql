select table_name, load_id, statement, history from `lake`.`raw`.`_runner_intents` i where table_name in ('orders') and not exists (select 1 from `lake`.`raw`.`_dlt_loads` l where l.load_id = i.load_id);

select table_name, token, min(expires_at) from `lake`.`raw`.`_runner_leases` where table_name in ('orders') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D;

select table_name, chunk, max(epoch) from `lake`.`raw`.`_runner_chunks` where table_name in ('orders') group by 1, 2;

select load_id from `lake`.`raw`.`_dlt_loads` where load_id in ('load-2');

select table_name, seq, source, source_table, job, run, mode, cursor_column, mark, load_id, digest, row_count, hash, source_token, key_columns from `lake`.`raw`.`_runner_state` where (table_name, seq) in (select table_name, max(seq) from `lake`.`raw`.`_runner_state` where table_name in ('orders') group by table_name);

delete from `lake`.`raw`.`_runner_chunks` where table_name = 'orders';

delete from `lake`.`raw`.`_runner_plans` where table_name = 'orders';

create or replace table `lake`.`raw`.`_runner_stage_d5acebe867b47f4d` (`shop` STRING, `id` BIGINT, `total` DECIMAL(10,2), `updated_at` TIMESTAMP, `deleted_at` TIMESTAMP_NTZ, `_runner_chunk` STRING, `_runner_file` STRING);

put '__input_stream__' into '/Volumes/lake/raw/_runner_files/_runner_stage_d5acebe867b47f4d/unique2.parquet' overwrite;

insert into `lake`.`raw`.`_runner_stage_d5acebe867b47f4d` replace where `_runner_chunk` in ('c2') select * from (select cast(`shop` as STRING) as `shop`, cast(`id` as BIGINT) as `id`, cast(`total` as DECIMAL(10,2)) as `total`, cast(`updated_at` as TIMESTAMP) as `updated_at`, cast(`deleted_at` as TIMESTAMP_NTZ) as `deleted_at`, 'c2' as `_runner_chunk`, 'unique2.parquet' as `_runner_file` from parquet.`/Volumes/lake/raw/_runner_files/_runner_stage_d5acebe867b47f4d/unique2.parquet`) where (select if((select count(*) from (select table_name, token, row_number() over (partition by table_name order by claimed, token) as place from (select table_name, token, min(expires_at) as claimed from `lake`.`raw`.`_runner_leases` where table_name in ('orders') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D) l) f where place = 1 and token = 'token-1') = 1, true, raise_error('orchestra-runner: another run took the table over')));

select table_name, column_name, full_data_type from `lake`.information_schema.columns where table_schema = 'raw' and table_name = 'orders' order by table_name, ordinal_position;

select _runner_chunk, count(*) from `lake`.`raw`.`_runner_stage_d5acebe867b47f4d` group by _runner_chunk;

insert into `lake`.`raw`.`_runner_intents` select 'orders', 'load-2', 'merge into "lake"."raw"."orders" t using (select "shop", "id", "total", "updated_at", "deleted_at" from "lake"."raw"."_runner_stage_d5acebe867b47f4d" where /* orchestra-runner: the lease */) s on t."shop" = s."shop" and t."id" = s."id" when matched then update set t."shop" = s."shop", t."id" = s."id", t."total" = s."total", t."updated_at" = s."updated_at", t."deleted_at" = s."deleted_at" when not matched then insert ("shop", "id", "total", "updated_at", "deleted_at") values (s."shop", s."id", s."total", s."updated_at", s."deleted_at") when not matched by source and t."updated_at" >= cast(\'2024-01-01\' as TIMESTAMP) and t."updated_at" < cast(\'2024-02-01\' as TIMESTAMP) then delete', '["orders", 2, "shop_pg", "public.orders", "shop", "run-1", "incremental", null, null, "load-2", "digest", 3, null, null, "shop,id"]' where (select if((select count(*) from (select table_name, token, row_number() over (partition by table_name order by claimed, token) as place from (select table_name, token, min(expires_at) as claimed from `lake`.`raw`.`_runner_leases` where table_name in ('orders') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D) l) f where place = 1 and token = 'token-1') = 1, true, raise_error('orchestra-runner: another run took the table over')));

merge into `lake`.`raw`.`orders` t using (select `shop`, `id`, `total`, `updated_at`, `deleted_at` from `lake`.`raw`.`_runner_stage_d5acebe867b47f4d` where (select if((select count(*) from (select table_name, token, row_number() over (partition by table_name order by claimed, token) as place from (select table_name, token, min(expires_at) as claimed from `lake`.`raw`.`_runner_leases` where table_name in ('orders') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D) l) f where place = 1 and token = 'token-1') = 1, true, raise_error('orchestra-runner: another run took the table over')))) s on t.`shop` = s.`shop` and t.`id` = s.`id` when matched then update set t.`shop` = s.`shop`, t.`id` = s.`id`, t.`total` = s.`total`, t.`updated_at` = s.`updated_at`, t.`deleted_at` = s.`deleted_at` when not matched then insert (`shop`, `id`, `total`, `updated_at`, `deleted_at`) values (s.`shop`, s.`id`, s.`total`, s.`updated_at`, s.`deleted_at`) when not matched by source and t.`updated_at` >= cast('2024-01-01' as TIMESTAMP) and t.`updated_at` < cast('2024-02-01' as TIMESTAMP) then delete;

insert into `lake`.`raw`.`_runner_chunks` (run, table_name, chunk, epoch, row_count, hash, source_token, loaded_at) values ('run-1', 'orders', 'c2', 1, 3, null, null, unix_millis(current_timestamp()) / 1000D);

insert into `lake`.`raw`.`_runner_state` (table_name, seq, source, source_table, job, run, mode, cursor_column, mark, load_id, digest, row_count, hash, source_token, key_columns, published_at) values ('orders', 2, 'shop_pg', 'public.orders', 'shop', 'run-1', 'incremental', null, null, 'load-2', 'digest', 3, null, null, 'shop,id', unix_millis(current_timestamp()) / 1000D);

insert into `lake`.`raw`.`_dlt_loads`  values ('load-2', 'raw', 0, current_timestamp(), null);

delete from `lake`.`raw`.`_runner_intents` where load_id = 'load-2';

delete from `lake`.`raw`.`_runner_plans` where table_name = 'orders';

drop table if exists `lake`.`raw`.`_runner_stage_d5acebe867b47f4d`;

list '/Volumes/lake/raw/_runner_files/_runner_stage_d5acebe867b47f4d';

remove '/Volumes/lake/raw/_runner_files/_runner_stage_d5acebe867b47f4d/unique2.parquet';

