"""What the server's catalog says: tables, columns, keys, estimates, storage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from connectors.postgres.config import PostgresConfig
from connectors.postgres.types import arrow_type
from runner.job import is_exact, matches
from runner.naming import literal
from runner.source import Column, Table

_KINDS = {"r": "table", "p": "partitioned", "v": "view", "m": "materialized_view", "f": "foreign_table"}
_ON_REQUEST = {"v": "views", "m": "materialized_views", "f": "foreign_tables"}

_RELATIONS = """
select c.oid, n.nspname as schema, c.relname as name, c.relkind::text as kind, c.relispartition as partition,
       coalesce(has_table_privilege(c.oid, 'select') and has_schema_privilege(n.oid, 'usage'), false) as readable,
       obj_description(c.oid, 'pg_class') as comment
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
  and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
order by 2, 3
"""

# A domain is followed to its base type; its typmod comes from the domain. Only the server's own types are known
# by their names: anybody may make another one that is called date.
_COLUMNS = """
with recursive base as (
    select t.oid, t.oid as base, t.typbasetype, t.typtypmod from pg_type t where t.typtype = 'd'
    union all
    select b.oid, t.oid, t.typbasetype, coalesce(nullif(b.typtypmod, -1), t.typtypmod)
    from base b join pg_type t on t.oid = b.typbasetype where b.typbasetype <> 0
)
select a.attrelid as oid, a.attnum, a.attname as name,
       a.attnotnull and not exists (
           select from pg_constraint c where c.conrelid = a.attrelid and c.contype = 'n' and not c.convalidated
           and c.conkey = array[a.attnum]) as required,
       case when t.typnamespace = 'pg_catalog'::regnamespace then t.typname else '' end as type,
       t.typcategory::text as category, coalesce(nullif(a.atttypmod, -1), b.typtypmod, -1) as typmod,
       format_type(a.atttypid, a.atttypmod) as native,
       col_description(a.attrelid, a.attnum) as comment
from pg_attribute a
left join base b on b.oid = a.atttypid and b.typbasetype = 0
join pg_type t on t.oid = coalesce(b.base, a.atttypid)
where a.attrelid = any($1::oid[]) and a.attnum > 0 and not a.attisdropped
order by a.attrelid, a.attnum
"""

_INDEXES = """
select i.indrelid as oid, i.indisprimary as primary,
       array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k(attnum, position)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where k.position <= i.indnkeyatts order by k.position) as columns
from pg_index i
where i.indrelid = any($1::oid[]) and i.indisvalid and i.indpred is null
"""

# Leaves carry the estimates; a table that was never analysed has reltuples -1. The size functions take
# a lock: a table that somebody holds exclusively has the catalog's figure, so that it stops nobody else.
_SIZES = """
with held as (
    select relation from pg_locks where mode = 'AccessExclusiveLock' and granted and pid <> pg_backend_pid()
    and database = (select oid from pg_database where datname = current_database())
)
select r.oid,
       coalesce(sum(case when held.relation is null then pg_table_size(l.oid)
                         else l.relpages * 8192::int8 end), 0)::int8 as bytes,
       coalesce(sum(case when held.relation is not null then greatest(l.reltuples, 0)
                         when l.reltuples >= 0 and l.relpages > 0 then
                             l.reltuples / l.relpages * (pg_relation_size(l.oid) / 8192.0)
                         when l.reltuples > 0 then l.reltuples
                         when l.relkind = 'r' and l.reltuples < 0 then pg_relation_size(l.oid) / $2
                         else 0 end), 0)::int8 as rows
from unnest($1::oid[]) r(oid)
cross join lateral (select relid as oid from pg_partition_tree(r.oid) where isleaf
                    union select r.oid) t
join pg_class l on l.oid = t.oid and l.relkind in ('r', 'm')
left join held on held.relation = l.oid
group by r.oid
"""

# What a table is stored in now, whatever an old snapshot shows: these functions ask the server's caches and
# not the snapshot. A column that was dropped has no privilege to be asked for, also when its name came back; one
# that was renamed has another identity.
_COLUMNS_NOW = """
    '/' || (select count(*) from unnest({attnums}) a(attnum)
            where has_column_privilege({oid}, a.attnum, 'select') is not null)
    || '/' || (select md5(string_agg(i.identity, ',' order by a.attnum)) from unnest({attnums}) a(attnum),
               pg_identify_object('pg_class'::regclass, {oid}, a.attnum) i)
"""
_FILES_NOW = """
    (select string_agg(l.oid || ':' || coalesce(pg_relation_filenode(l.oid), 0), ',' order by l.oid)
     from (select relid::oid as oid from pg_partition_tree({oid}::regclass) union select {oid}) l)
"""
# And what the snapshot thinks that it is stored in.
_FILES_THEN = """
    (with recursive tree as (
         select {oid} as oid
         union all
         select i.inhrelid from tree join pg_class p on p.oid = tree.oid and p.relkind = 'p'
         join pg_inherits i on i.inhparent = p.oid
         -- DETACH CONCURRENTLY is under way, of which PostgreSQL before 14 has no column.
         and to_jsonb(i)->>'inhdetachpending' is distinct from 'true')
     select string_agg(c.oid || ':' || c.relfilenode, ',' order by c.oid)
     from tree join pg_class c on c.oid = tree.oid)
"""
# The same text for tables without partitions, without the locks of pg_partition_tree.
_ALL_STORED = """
select t.oid, t.oid || ':' || coalesce(pg_relation_filenode(t.oid), 0) || {columns} as storage
from unnest($1::oid[], $2::text[]) t(oid, attnums)
"""


def _of(sql: str, table: Table) -> str:
    attnums = ",".join(str(number) for number in table.detail["attnums"])
    return sql.format(oid=f"{table.detail['oid']}::oid", attnums=f"'{{{attnums}}}'::int2[]")


def storage(table: Table) -> str:
    """Return the query of what a table is stored in now, and which columns it has."""
    return f"select {_of(_FILES_NOW, table)} || {_of(_COLUMNS_NOW, table)}"


def check(table: Table, planned: str) -> str:
    """Return the statement that divides by zero where a table is not stored as planned, or as the snapshot thinks.

    TRUNCATE and rewriting DDL are not MVCC-safe (PostgreSQL, Concurrency Control, Caveats): an older snapshot reads
    nothing there. A division has no answer to wait for, so that it costs no round trip.
    """
    now = f"({storage(table)}) is not distinct from {literal(planned)}"
    then = f"{_of(_FILES_THEN, table)} is not distinct from {literal(planned.partition('/')[0])}"
    return f"select 1 / ({now} and {then})::int"


async def storages(connection: Any, tables: Iterable[Table]) -> dict[int, str]:
    """Return what plain tables are stored in now, by their oid."""
    plain = [table.detail for table in tables if table.kind == "table" and table.readable]
    attnums = ["{" + ",".join(map(str, detail["attnums"])) + "}" for detail in plain]
    query = _ALL_STORED.format(columns=_COLUMNS_NOW.format(oid="t.oid", attnums="t.attnums::int2[]"))
    return dict(await connection.fetch(query, [detail["oid"] for detail in plain], attnums))


HAS_FOREIGN = """
select exists (select from pg_partition_tree($1::oid::regclass) t
               join pg_class c on c.oid = t.relid where c.relkind = 'f')
"""


async def discover(connection: Any, config: PostgresConfig, patterns: Sequence[str]) -> list[Table]:
    """Return what the patterns name; a partition once, with its parent; views only on request."""
    found = [relation for relation in await connection.fetch(_RELATIONS) if _wanted(relation, config, patterns)]
    oids = [relation["oid"] for relation in found]
    columns = _by_oid(await connection.fetch(_COLUMNS, oids))
    indexes = _by_oid(await connection.fetch(_INDEXES, oids))
    # Sizes take a lock on each relation: only what we may read.
    readable = [relation["oid"] for relation in found if relation["readable"]]
    sizes = {row["oid"]: row for row in await connection.fetch(_SIZES, readable, 100.0)}
    tables = []
    for relation in found:
        oid = relation["oid"]
        keys = [index["columns"] for index in indexes[oid] if index["primary"]]
        size = sizes.get(oid)
        tables.append(
            Table(
                schema=relation["schema"],
                name=relation["name"],
                columns=tuple(_column(row) for row in columns[oid]),
                primary_key=tuple(keys[0]) if keys else (),
                kind=_KINDS[relation["kind"]],
                rows=size["rows"] if size else 0,
                bytes=size["bytes"] if size else 0,
                indexed=tuple(sorted({index["columns"][0] for index in indexes[oid] if index["columns"]})),
                readable=relation["readable"],
                comment=relation["comment"],
                detail={"oid": oid, "attnums": [row["attnum"] for row in columns[oid]]},
            )
        )
    return tables


def _wanted(relation: Any, config: PostgresConfig, patterns: Sequence[str]) -> bool:
    qualified = f"{relation['schema']}.{relation['name']}"
    if config.schemas is not None and relation["schema"] not in config.schemas:
        return False
    hits = [pattern for pattern in patterns if matches(pattern, qualified)]
    if any(is_exact(pattern) or pattern == qualified for pattern in hits):
        return True
    asked = _ON_REQUEST.get(relation["kind"])
    return bool(hits) and not relation["partition"] and (asked is None or asked in config.include)


def _by_oid(rows: Iterable[Any]) -> dict[int, list[Any]]:
    grouped: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[row["oid"]].append(row)
    return grouped


def _column(row: Any) -> Column:
    arrow, json, note = arrow_type(row["type"], row["category"], row["typmod"])
    return Column(
        name=row["name"],
        type=arrow,
        nullable=not row["required"],
        native=row["native"],
        json=json,
        note=note,
        comment=row["comment"],
    )
