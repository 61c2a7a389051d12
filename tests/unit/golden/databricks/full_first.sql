select table_name, load_id, statement, history from `lake`.`raw`.`_runner_intents` i where table_name in ('all_types') and not exists (select 1 from `lake`.`raw`.`_dlt_loads` l where l.load_id = i.load_id);

select table_name, token, min(expires_at) from `lake`.`raw`.`_runner_leases` where table_name in ('all_types') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D;

select table_name, chunk, max(epoch) from `lake`.`raw`.`_runner_chunks` where table_name in ('all_types') group by 1, 2;

create or replace table `lake`.`raw`.`_runner_stage_554969f8fb94b676` (`yes` BOOLEAN, `small` SMALLINT, `middle` INT, `id` BIGINT, `approx` FLOAT, `exact` DOUBLE, `price` DECIMAL(38,9), `name` STRING, `bytes` BINARY, `day` DATE, `hour` STRING, `naive` TIMESTAMP_NTZ, `moment` TIMESTAMP, `details` STRING, `_runner_chunk` STRING, `_runner_file` STRING);

put '__input_stream__' into '/Volumes/lake/raw/_runner_files/_runner_stage_554969f8fb94b676/unique1.parquet' overwrite;

insert into `lake`.`raw`.`_runner_stage_554969f8fb94b676` replace where `_runner_chunk` in ('c1') select * from (select cast(`Yes` as BOOLEAN) as `yes`, cast(`Small` as SMALLINT) as `small`, cast(`Middle` as INT) as `middle`, cast(`Id` as BIGINT) as `id`, cast(`Approx` as FLOAT) as `approx`, cast(`Exact` as DOUBLE) as `exact`, cast(`Price` as DECIMAL(38,9)) as `price`, cast(`Name` as STRING) as `name`, cast(`Bytes` as BINARY) as `bytes`, cast(`Day` as DATE) as `day`, cast(`Hour` as STRING) as `hour`, cast(`Naive` as TIMESTAMP_NTZ) as `naive`, cast(`Moment` as TIMESTAMP) as `moment`, cast(`details` as STRING) as `details`, 'c1' as `_runner_chunk`, 'unique1.parquet' as `_runner_file` from parquet.`/Volumes/lake/raw/_runner_files/_runner_stage_554969f8fb94b676/unique1.parquet`) where (select if((select count(*) from (select table_name, token, row_number() over (partition by table_name order by claimed, token) as place from (select table_name, token, min(expires_at) as claimed from `lake`.`raw`.`_runner_leases` where table_name in ('all_types') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D) l) f where place = 1 and token = 'token-1') = 1, true, raise_error('orchestra-runner: another run took the table over')));

insert into `lake`.`raw`.`_runner_chunks` (run, table_name, chunk, epoch, row_count, hash, source_token, loaded_at) values ('run-1', 'all_types', 'c1', 1, 3, null, null, unix_millis(current_timestamp()) / 1000D);

select table_name, load_id, statement, history from `lake`.`raw`.`_runner_intents` i where table_name in ('all_types') and not exists (select 1 from `lake`.`raw`.`_dlt_loads` l where l.load_id = i.load_id);

select table_name, token, min(expires_at) from `lake`.`raw`.`_runner_leases` where table_name in ('all_types') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D;

select table_name, chunk, max(epoch) from `lake`.`raw`.`_runner_chunks` where table_name in ('all_types') group by 1, 2;

select load_id from `lake`.`raw`.`_dlt_loads` where load_id in ('load-1');

select table_name, seq, source, source_table, job, run, mode, cursor_column, mark, load_id, digest, row_count, hash, source_token, key_columns from `lake`.`raw`.`_runner_state` where (table_name, seq) in (select table_name, max(seq) from `lake`.`raw`.`_runner_state` where table_name in ('all_types') group by table_name);

put '__input_stream__' into '/Volumes/lake/raw/_runner_files/_runner_stage_554969f8fb94b676/unique2.parquet' overwrite;

insert into `lake`.`raw`.`_runner_stage_554969f8fb94b676` replace where `_runner_chunk` in ('c2') select * from (select cast(`Yes` as BOOLEAN) as `yes`, cast(`Small` as SMALLINT) as `small`, cast(`Middle` as INT) as `middle`, cast(`Id` as BIGINT) as `id`, cast(`Approx` as FLOAT) as `approx`, cast(`Exact` as DOUBLE) as `exact`, cast(`Price` as DECIMAL(38,9)) as `price`, cast(`Name` as STRING) as `name`, cast(`Bytes` as BINARY) as `bytes`, cast(`Day` as DATE) as `day`, cast(`Hour` as STRING) as `hour`, cast(`Naive` as TIMESTAMP_NTZ) as `naive`, cast(`Moment` as TIMESTAMP) as `moment`, cast(`details` as STRING) as `details`, 'c2' as `_runner_chunk`, 'unique2.parquet' as `_runner_file` from parquet.`/Volumes/lake/raw/_runner_files/_runner_stage_554969f8fb94b676/unique2.parquet`) where (select if((select count(*) from (select table_name, token, row_number() over (partition by table_name order by claimed, token) as place from (select table_name, token, min(expires_at) as claimed from `lake`.`raw`.`_runner_leases` where table_name in ('all_types') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D) l) f where place = 1 and token = 'token-1') = 1, true, raise_error('orchestra-runner: another run took the table over')));

select table_name, column_name, full_data_type from `lake`.information_schema.columns where table_schema = 'raw' and table_name = 'all_types' order by table_name, ordinal_position;

select _runner_chunk, count(*) from `lake`.`raw`.`_runner_stage_554969f8fb94b676` group by _runner_chunk;

select 1 from `lake`.`raw`.`_runner_stage_554969f8fb94b676` group by `id` having count(*) > 1 limit 1;

select 1 from `lake`.`raw`.`_runner_stage_554969f8fb94b676` where `id` is null limit 1;

insert into `lake`.`raw`.`_runner_intents` select 'all_types', 'load-1', 'create or replace table "lake"."raw"."all_types" as select "yes", "small", "middle", "id", "approx", "exact", "price", "name", "bytes", "day", "hour", "naive", "moment", "details" from "lake"."raw"."_runner_stage_554969f8fb94b676" where /* orchestra-runner: the lease */', '["all_types", 1, "shop_pg", "public.all_types", "shop", "run-1", "full", "moment", "it\'s 1\\\\2", "load-1", "digest", 5, null, null, "id"]' where (select if((select count(*) from (select table_name, token, row_number() over (partition by table_name order by claimed, token) as place from (select table_name, token, min(expires_at) as claimed from `lake`.`raw`.`_runner_leases` where table_name in ('all_types') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D) l) f where place = 1 and token = 'token-1') = 1, true, raise_error('orchestra-runner: another run took the table over')));

create or replace table `lake`.`raw`.`all_types` as select `yes`, `small`, `middle`, `id`, `approx`, `exact`, `price`, `name`, `bytes`, `day`, `hour`, `naive`, `moment`, `details` from `lake`.`raw`.`_runner_stage_554969f8fb94b676` where (select if((select count(*) from (select table_name, token, row_number() over (partition by table_name order by claimed, token) as place from (select table_name, token, min(expires_at) as claimed from `lake`.`raw`.`_runner_leases` where table_name in ('all_types') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D) l) f where place = 1 and token = 'token-1') = 1, true, raise_error('orchestra-runner: another run took the table over')));

insert into `lake`.`raw`.`_runner_chunks` (run, table_name, chunk, epoch, row_count, hash, source_token, loaded_at) values ('run-1', 'all_types', 'c2', 1, 2, null, null, unix_millis(current_timestamp()) / 1000D);

insert into `lake`.`raw`.`_runner_state` (table_name, seq, source, source_table, job, run, mode, cursor_column, mark, load_id, digest, row_count, hash, source_token, key_columns, published_at) values ('all_types', 1, 'shop_pg', 'public.all_types', 'shop', 'run-1', 'full', 'moment', 'it\'s 1\\2', 'load-1', 'digest', 5, null, null, 'id', unix_millis(current_timestamp()) / 1000D);

insert into `lake`.`raw`.`_dlt_loads`  values ('load-1', 'raw', 0, current_timestamp(), null);

delete from `lake`.`raw`.`_runner_intents` where load_id = 'load-1';

delete from `lake`.`raw`.`_runner_plans` where table_name = 'all_types';

drop table if exists `lake`.`raw`.`_runner_stage_554969f8fb94b676`;

list '/Volumes/lake/raw/_runner_files/_runner_stage_554969f8fb94b676';

remove '/Volumes/lake/raw/_runner_files/_runner_stage_554969f8fb94b676/unique1.parquet';

remove '/Volumes/lake/raw/_runner_files/_runner_stage_554969f8fb94b676/unique2.parquet';

