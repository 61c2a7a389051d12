"""What is moved: TPC-H, many small tables, wide ones, fat values, skewed keys."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncpg

from tests.environments import environment

_PEERS = Path(__file__).with_name("peers")
TPCH = ("lineitem", "orders", "partsupp", "part", "customer", "supplier", "nation", "region")
_TPCH = """
create schema tpch;
create table tpch.region (r_regionkey int primary key, r_name char(25) not null, r_comment varchar(152));
create table tpch.nation (n_nationkey int primary key, n_name char(25) not null, n_regionkey int not null,
    n_comment varchar(152));
create table tpch.supplier (s_suppkey int primary key, s_name char(25) not null, s_address varchar(40) not null,
    s_nationkey int not null, s_phone char(15) not null, s_acctbal numeric(15, 2) not null, s_comment varchar(101));
create table tpch.customer (c_custkey int primary key, c_name varchar(25) not null, c_address varchar(40) not null,
    c_nationkey int not null, c_phone char(15) not null, c_acctbal numeric(15, 2) not null,
    c_mktsegment char(10) not null, c_comment varchar(117) not null);
create table tpch.part (p_partkey int primary key, p_name varchar(55) not null, p_mfgr char(25) not null,
    p_brand char(10) not null, p_type varchar(25) not null, p_size int not null, p_container char(10) not null,
    p_retailprice numeric(15, 2) not null, p_comment varchar(23) not null);
create table tpch.partsupp (ps_partkey int, ps_suppkey int, ps_availqty int not null,
    ps_supplycost numeric(15, 2) not null, ps_comment varchar(199) not null, primary key (ps_partkey, ps_suppkey));
create table tpch.orders (o_orderkey int primary key, o_custkey int not null, o_orderstatus char(1) not null,
    o_totalprice numeric(15, 2) not null, o_orderdate date not null, o_orderpriority char(15) not null,
    o_clerk char(15) not null, o_shippriority int not null, o_comment varchar(79) not null);
create table tpch.lineitem (l_orderkey int, l_partkey int not null, l_suppkey int not null, l_linenumber int,
    l_quantity numeric(15, 2) not null, l_extendedprice numeric(15, 2) not null, l_discount numeric(15, 2) not null,
    l_tax numeric(15, 2) not null, l_returnflag char(1) not null, l_linestatus char(1) not null,
    l_shipdate date not null, l_commitdate date not null, l_receiptdate date not null,
    l_shipinstruct char(25) not null, l_shipmode char(10) not null, l_comment varchar(44) not null,
    primary key (l_orderkey, l_linenumber));
"""
_SMALL = """
create table {schema}.t{number:04d} (id int primary key, n bigint, name text, code varchar(12), price numeric(12, 2),
    share float8, day date, at timestamptz, done boolean, ref uuid);
insert into {schema}.t{number:04d} select i, i * 7919::bigint, 'name ' || i, 'c' || i % 97, (i * 31 % 99999) / 100.0,
    i / 7.0, date '2020-01-01' + i % 1500, timestamptz '2024-01-01 00:00:00+00' + make_interval(secs => i * 61),
    i % 3 = 0, md5(i::text)::uuid from generate_series(1, {rows}) i;
"""
# A row must fit into a page of 8 kB: four columns of a few bytes, again and again.
_WIDE = ("i * {c} % 100000", "((i * {c}) % 99999 / 100.0)::numeric(8, 2)", "'v' || (i + {c}) % 1000",
         "date '2000-01-01' + (i + {c}) % 9000")  # fmt: skip
_FAT = """
create schema fat;
create table fat.t (id int primary key, doc text not null, raw bytea not null);
insert into fat.t select i, repeat(md5(i::text), 32768), decode(repeat(md5((-i)::text), 32768), 'hex')
from generate_series(1, {rows}) i;
"""
# Nine of ten keys lie within a thousandth of their range.
_SKEWED = """
create schema skewed;
create table skewed.t (id bigint primary key, n int not null, note text not null, at timestamp not null);
insert into skewed.t select case when i % 10 = 0 then i::bigint * 1000000 else i end, i % 1000, 'note ' || md5(i::text),
    timestamp '2024-01-01 00:00:00' + make_interval(secs => i) from generate_series(1, {rows}) i;
"""


async def fill(dsn: str, schema: str, scale: float, folder: Path) -> list[str]:
    """Create a schema and its tables; return their names.

    Args:
        scale: TPC-H's scale factor; the others grow with it.
    """
    connection = await asyncpg.connect(dsn)
    try:
        if schema == "tpch":
            await _tpch(connection, scale, folder)
        elif schema.startswith("small"):
            count, rows = (int(part) for part in schema.removeprefix("small").split("x"))
            await connection.execute(f"create schema {schema}")
            for number in range(count):
                await connection.execute(_SMALL.format(schema=schema, number=number, rows=rows))
        elif schema == "wide":
            columns = ", ".join(f"{_WIDE[c % 4].format(c=c + 1)} as c{c:03d}" for c in range(1000))
            rows = 2_000 if scale < 1 else 20_000
            await connection.execute(
                f"create schema wide; create table wide.t as select {columns} from generate_series(1, {rows}) i"
            )
        elif schema == "fat":
            await connection.execute(_FAT.format(rows=60 if scale < 1 else 600))
        else:
            await connection.execute(_SKEWED.format(rows=int(1_000_000 * max(scale, 0.2))))
        await connection.execute("vacuum analyze")
        found = await connection.fetch(
            "select table_name from information_schema.tables where table_schema = $1 order by 1", schema
        )
        return [row["table_name"] for row in found]
    finally:
        await connection.close()


async def _tpch(connection: asyncpg.Connection, scale: float, folder: Path) -> None:
    generator = environment(_PEERS / "tpchgen.txt").with_name("tpchgen-cli")
    subprocess.run([generator, "csv", "-s", f"{scale:g}", f"--output-dir={folder}"], check=True, capture_output=True)
    await connection.execute(_TPCH)
    for table in TPCH:
        file = folder / f"{table}.csv"
        await connection.copy_to_table(table, schema_name="tpch", source=file, format="csv", header=True)
        file.unlink()
