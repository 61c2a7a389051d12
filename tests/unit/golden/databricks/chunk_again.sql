select table_name, load_id, statement, history from `lake`.`raw`.`_runner_intents` i where table_name in ('orders') and not exists (select 1 from `lake`.`raw`.`_dlt_loads` l where l.load_id = i.load_id);

select table_name, token, min(expires_at) from `lake`.`raw`.`_runner_leases` where table_name in ('orders') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D;

select table_name, chunk, max(epoch) from `lake`.`raw`.`_runner_chunks` where table_name in ('orders') group by 1, 2;

delete from `lake`.`raw`.`_runner_chunks` where table_name = 'orders' and chunk = 'c2';

put '__input_stream__' into '/Volumes/lake/raw/_runner_files/_runner_stage_d5acebe867b47f4d/unique3.parquet' overwrite;

insert into `lake`.`raw`.`_runner_stage_d5acebe867b47f4d` replace where `_runner_chunk` in ('c2') select * from (select cast(`shop` as STRING) as `shop`, cast(`id` as BIGINT) as `id`, cast(`total` as DECIMAL(10,2)) as `total`, cast(`updated_at` as TIMESTAMP) as `updated_at`, cast(`deleted_at` as TIMESTAMP_NTZ) as `deleted_at`, 'c2' as `_runner_chunk`, 'unique3.parquet' as `_runner_file` from parquet.`/Volumes/lake/raw/_runner_files/_runner_stage_d5acebe867b47f4d/unique3.parquet`) where (select if((select count(*) from (select table_name, token, row_number() over (partition by table_name order by claimed, token) as place from (select table_name, token, min(expires_at) as claimed from `lake`.`raw`.`_runner_leases` where table_name in ('orders') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D) l) f where place = 1 and token = 'token-1') = 1, true, raise_error('orchestra-runner: another run took the table over')));

insert into `lake`.`raw`.`_runner_chunks` (run, table_name, chunk, epoch, row_count, hash, source_token, loaded_at) values ('run-1', 'orders', 'c2', 2, 3, null, null, unix_millis(current_timestamp()) / 1000D);

