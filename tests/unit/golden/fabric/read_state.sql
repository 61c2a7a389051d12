select TABLE_NAME, COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION from INFORMATION_SCHEMA.COLUMNS where TABLE_SCHEMA = 'raw' order by TABLE_NAME, ORDINAL_POSITION;
select table_name, source, source_table, job, run, mode, cursor_column, mark, load_id, digest, row_count, hash, source_token, key_columns from [raw].[_runner_state] s where seq = (select max(seq) from [raw].[_runner_state] n where n.table_name = s.table_name);
select table_name, [plan] from [raw].[_runner_plans] p where not exists (select 1 from [raw].[_runner_state] s where s.table_name = p.table_name and s.run = p.run);
select table_name, chunk, run, epoch, row_count, hash, source_token from [raw].[_runner_chunks] where run = 'run1' or table_name in (select table_name from [raw].[_runner_plans]);
select TABLE_NAME, COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION from INFORMATION_SCHEMA.COLUMNS where TABLE_SCHEMA = 'raw' and TABLE_NAME = '_runner_made' order by TABLE_NAME, ORDINAL_POSITION;
select object_id from [raw].[_runner_made];
select name, object_id from sys.tables where schema_id = schema_id('raw');
