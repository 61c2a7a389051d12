delete from `lake`.`raw`.`_runner_runs` where run = 'run-1';

insert into `lake`.`raw`.`_runner_runs` values ('run-1', 'shop', 'backfill', 'shop_pg', 'host', '0.1', '2024-01-01T00:00:00Z', null, null, null, null, null, null);

select table_name, digest from `lake`.`raw`.`_runner_schemas`;

select schema from `lake`.`raw`.`_dlt_version` where schema_name = 'raw' order by inserted_at desc limit 1;

insert into `lake`.`raw`.`_dlt_version` (version, engine_version, inserted_at, schema_name, version_hash, schema) select 1, 11, coalesce(greatest(current_timestamp(), (select max(inserted_at) + interval 1 microsecond from `lake`.`raw`.`_dlt_version` where schema_name = 'raw')), current_timestamp()), 'raw', 'Bo+NEU+8OUIdc5MMC/eAUVqiEIPJPeBrFO1OC7oVXqA=', '{…}';

delete from `lake`.`raw`.`_runner_schemas` where table_name in ('orders');

insert into `lake`.`raw`.`_runner_schemas` values ('orders', 'c0afccc955b742af');

