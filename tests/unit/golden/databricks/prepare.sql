select 1 from `lake`.information_schema.schemata where schema_name = 'raw';

create schema if not exists `lake`.`raw`;

create volume if not exists `lake`.`raw`.`_runner_files`;

select table_name, column_name, full_data_type from `lake`.information_schema.columns where table_schema = 'raw' order by table_name, ordinal_position;

create table if not exists `lake`.`raw`.`_runner_state` (table_name STRING not null, seq BIGINT not null, source STRING not null, source_table STRING not null, job STRING not null, run STRING not null, mode STRING not null, cursor_column STRING, mark STRING, load_id STRING not null, digest STRING not null, row_count BIGINT not null, published_at DOUBLE not null, hash STRING, source_token STRING, key_columns STRING);

create table if not exists `lake`.`raw`.`_runner_chunks` (run STRING not null, table_name STRING not null, chunk STRING not null, epoch BIGINT not null, row_count BIGINT not null, hash STRING, loaded_at DOUBLE not null, source_token STRING);

create table if not exists `lake`.`raw`.`_runner_plans` (table_name STRING not null, run STRING not null, plan STRING not null, created_at DOUBLE not null);

create table if not exists `lake`.`raw`.`_runner_runs` (run STRING not null, job STRING not null, command STRING not null, source STRING not null, host STRING not null, version STRING not null, started STRING not null, finished STRING, exit_code BIGINT, tables_published BIGINT, tables_failed BIGINT, row_count BIGINT, verified STRING);

create table if not exists `lake`.`raw`.`_runner_leases` (table_name STRING not null, run STRING not null, token STRING not null, host STRING not null, pid BIGINT not null, expires_at DOUBLE not null);

create table if not exists `lake`.`raw`.`_runner_schemas` (table_name STRING not null, digest STRING not null);

create table if not exists `lake`.`raw`.`_dlt_loads` (load_id STRING not null, schema_name STRING, status BIGINT not null, inserted_at TIMESTAMP not null, schema_version_hash STRING);

create table if not exists `lake`.`raw`.`_dlt_version` (version BIGINT not null, engine_version BIGINT not null, inserted_at TIMESTAMP not null, schema_name STRING not null, version_hash STRING not null, schema STRING not null);

create table if not exists `lake`.`raw`.`_runner_intents` (table_name STRING not null, load_id STRING not null, statement STRING not null, history STRING not null);

