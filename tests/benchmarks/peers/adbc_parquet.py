"""ADBC's PostgreSQL driver, written as Parquet batch by batch."""

import sys

import adbc_driver_postgresql.dbapi
import pyarrow.parquet as pq

dsn, schema, tables, _, place = sys.argv[1:]
with adbc_driver_postgresql.dbapi.connect(dsn) as connection, connection.cursor() as cursor:
    for table in tables.split(","):
        cursor.execute(f"select * from {schema}.{table}")
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(
            f"{place}/{table}.parquet", reader.schema, compression="zstd", compression_level=1
        ) as out:
            for batch in reader:
                out.write_batch(batch)
