select suser_sname(), db_name();
select cast(databasepropertyex(db_name(), 'Collation') as varchar(128));
-- delete _runner_probe;
