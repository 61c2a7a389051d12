select table_name, column_name, full_data_type from `lake`.information_schema.columns where table_schema = 'raw' order by table_name, ordinal_position;

select table_name, source, source_table, job, run, mode, cursor_column, mark, load_id, digest, row_count, hash, source_token, key_columns from `lake`.`raw`.`_runner_state` s where seq = (select max(seq) from `lake`.`raw`.`_runner_state` n where n.table_name = s.table_name);

select table_name, plan from `lake`.`raw`.`_runner_plans` p where not exists (select 1 from `lake`.`raw`.`_runner_state` s where s.table_name = p.table_name and s.run = p.run);

select table_name, chunk, run, epoch, row_count, hash, source_token from `lake`.`raw`.`_runner_chunks` where run = 'run-1' or table_name in (select table_name from `lake`.`raw`.`_runner_plans`);

