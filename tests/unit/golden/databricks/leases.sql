select distinct run, token, host, pid from `lake`.`raw`.`_runner_leases`;

select token from `lake`.`raw`.`_runner_leases` group by token having max(expires_at) < unix_millis(current_timestamp()) / 1000D limit 1;

insert into `lake`.`raw`.`_runner_leases` (table_name, run, token, host, pid, expires_at) values ('events', 'run-1', 'token-1', 'host', 1, unix_millis(current_timestamp()) / 1000D + 60), ('orders', 'run-1', 'token-1', 'host', 1, unix_millis(current_timestamp()) / 1000D + 60) ;

select table_name, token, min(expires_at) from `lake`.`raw`.`_runner_leases` where table_name in ('events', 'orders') group by table_name, token having max(expires_at) >= unix_millis(current_timestamp()) / 1000D;

select table_name, load_id, statement, history from `lake`.`raw`.`_runner_intents` i where table_name in ('events', 'orders') and not exists (select 1 from `lake`.`raw`.`_dlt_loads` l where l.load_id = i.load_id);

insert into `lake`.`raw`.`_runner_leases` (table_name, run, token, host, pid, expires_at) select distinct table_name, run, token, host, pid, unix_millis(current_timestamp()) / 1000D + 60 from `lake`.`raw`.`_runner_leases` where token = 'token-1';

delete from `lake`.`raw`.`_runner_leases` where run = 'run-1';

