"""connectorx to Arrow, written as Parquet."""

import sys

import connectorx
import pyarrow.parquet as pq

dsn, schema, tables, _, place = sys.argv[1:]
for table in tables.split(","):
    found = connectorx.read_sql(dsn, f"select * from {schema}.{table}", return_type="arrow")
    pq.write_table(found, f"{place}/{table}.parquet", compression="zstd", compression_level=1)
