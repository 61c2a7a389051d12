delete from `lake`.`raw`.`_runner_chunks` where table_name = 'orders';

delete from `lake`.`raw`.`_runner_plans` where table_name = 'orders';

drop table if exists `lake`.`raw`.`_runner_stage_d5acebe867b47f4d`;

select current_user();

select 1 from `lake`.information_schema.schemata where schema_name = 'raw';

