"""DuckDB with its Postgres extension, out of the box."""

import sys

import duckdb
from duckdb_extensions import import_extension

dsn, schema, tables, kind, place = sys.argv[1:]
import_extension("postgres_scanner")
con = duckdb.connect(place if kind == "duckdb" else ":memory:")
con.execute("load postgres")
con.execute(f"attach '{dsn}' as pg (type postgres, read_only)")
con.execute("create schema raw")
for table in tables.split(","):
    if kind == "parquet":
        con.execute(f"copy (from pg.{schema}.{table}) to '{place}/{table}.parquet'")
    else:
        con.execute(f"create table raw.{table} as from pg.{schema}.{table}")
con.close()
