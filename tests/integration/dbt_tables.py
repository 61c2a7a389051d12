"""A shop of a few orders and a workspace of a few runs, in the tables and types that the loader makes of them.

The numbers are small enough to reckon the marts by hand.
"""

from __future__ import annotations

from collections.abc import Mapping

# What the loader makes of each kind of column (runner.writers).
TYPES: dict[str, dict[str, str]] = {
    "duckdb": {"text": "varchar", "moment": "timestamptz", "json": "json", "double": "double", "number": "decimal({})"},
    "postgres": {
        "text": "varchar",
        "moment": "timestamptz",
        "json": "jsonb",
        "double": "double precision",
        "number": "numeric({})",
    },
    "snowflake": {
        "text": "text",
        "moment": "timestamp_tz",
        "json": "variant",
        "double": "double",
        "number": "decimal({})",
    },
    "bigquery": {
        "text": "string",
        "moment": "timestamp",
        "json": "json",
        "double": "float64",
        "number": "numeric({})",
        "bigint": "int64",
        "timestamp": "datetime",
        "boolean": "bool",
    },
}

_LEDGER = {"table_name": "text", "published_at": "double"}
# Column to kind, then rows as they are written in SQL. A text in braces is JSON.
SHOP: dict[str, tuple[dict[str, str], list[str]]] = {
    "shop__customers": (
        {
            "id": "bigint",
            "name": "text",
            "country": "text",
            "born": "date",
            "vip": "boolean",
            "settings": "json",
            "created_at": "moment",
            "updated_at": "moment",
        },
        [
            "1, 'Ada', 'DE', '1990-12-31', true, '{\"theme\": \"dark\", \"n\": 1}', '2023-01-01 00:00:00+00', '2024-01-01 00:00:00+00'",
            "2, 'Bo', 'FR', null, false, '{}', '2023-01-02 00:00:00+00', '2024-01-02 00:00:00+00'",
            "3, 'Cy', 'US', null, false, '{\"theme\": \"light\"}', '2023-01-03 00:00:00+00', '2024-01-03 00:00:00+00'",
        ],
    ),
    "shop__products": (
        {"id": "bigint", "sku": "text", "title": "text", "price": "number 12, 2", "updated_at": "moment"},
        [
            "10, 'sku-10', 'Pen', 2.50, '2024-01-01 00:00:00+00'",
            "11, 'sku-11', 'Ink', 8.00, '2024-01-01 00:00:00+00'",
            "12, 'sku-12', 'Pad', 1.00, '2024-01-01 00:00:00+00'",
        ],
    ),
    "shop__orders": (
        {
            "id": "bigint",
            "customer_id": "bigint",
            "status": "text",
            "placed_at": "timestamp",
            "total": "number 14, 2",
            "note": "text",
            "updated_at": "moment",
        },
        [
            "1, 1, 'paid', '2024-02-28 23:59:59.5', 20.00, null, '2024-03-01 00:00:00+00'",
            "2, 1, 'returned', '2024-03-01 08:00:00', 7.00, null, '2024-03-02 00:00:00+00'",
            "3, 2, 'shipped', '2024-03-01 09:30:00', 100.10, 'a note', '2024-03-03 00:00:00+00'",
        ],
    ),
    "shop__order_items": (
        {
            "order_id": "bigint",
            "line": "bigint",
            "product_id": "bigint",
            "quantity": "bigint",
            "price": "number 12, 2",
            "discount": "double",
        },
        ["1, 1, 10, 3, 2.50, 0.1", "1, 2, 11, 1, 8.00, 0", "2, 1, 10, 2, 2.55, 0.15", "3, 1, 11, 5, 8.01, 0.3"],
    ),
    "_runner_state": (_LEDGER, ["'shop__order_items', 1709251200", "'shop__order_items', 1709251100"]),
}
WORKSPACE: dict[str, tuple[dict[str, str], list[str]]] = {
    "pipelines": (
        {
            "id": "text",
            "name": "text",
            "alias": "text",
            "paused": "boolean",
            "product_name": "text",
            "created_at": "moment",
            "updated_at": "moment",
        },
        [
            "'p1', 'Load', 'load', false, null, '2024-01-01 00:00:00+00', '2024-01-01 00:00:00+00'",
            "'p2', 'Never', null, true, null, '2024-01-01 00:00:00+00', '2024-01-01 00:00:00+00'",
        ],
    ),
    "pipeline_runs": (
        {
            "id": "text",
            "pipeline_id": "text",
            "pipeline_name": "text",
            "env_name": "text",
            "run_status": "text",
            "message": "text",
            "branch": "text",
            "created_at": "moment",
            "started_at": "moment",
            "completed_at": "moment",
            "updated_at": "moment",
        },
        [
            "'r1', 'p1', 'Load', 'Production', 'SUCCEEDED', null, 'main', '2024-05-01 23:59:59.5+00',"
            " '2024-05-02 00:00:00.25+00', '2024-05-02 00:01:00.75+00', '2024-05-02 00:01:01+00'",
            "'r2', 'p1', 'Load', 'Production', 'FAILED', 'no', 'main', '2024-05-03 10:00:00+00',"
            " '2024-05-03 10:00:01+00', '2024-05-03 10:00:11+00', null",
            "'r3', 'p1', 'Load', 'Production', 'RUNNING', null, 'main', '2024-05-03 11:00:00+00',"
            " '2024-05-03 11:00:02+00', null, '2024-05-03 11:00:02+00'",
        ],
    ),
    "task_runs": (
        {
            "id": "text",
            "pipeline_run_id": "text",
            "pipeline_id": "text",
            "task_id": "text",
            "task_name": "text",
            "integration": "text",
            "integration_job": "text",
            "status": "text",
            "message": "text",
            "number_of_attempts": "bigint",
            "created_at": "moment",
            "started_at": "moment",
            "completed_at": "moment",
            "updated_at": "moment",
        },
        [
            "'t1', 'r1', 'p1', 'load', 'Load', 'PYTHON', 'PYTHON_EXECUTE_SCRIPT', 'SUCCEEDED', null, 1,"
            " '2024-05-02 00:00:00+00', '2024-05-02 00:00:01+00', '2024-05-02 00:00:03.5+00', '2024-05-02 00:00:04+00'",
        ],
    ),
    "operations": (
        {
            "id": "text",
            "pipeline_run_id": "text",
            "task_run_id": "text",
            "operation_name": "text",
            "operation_type": "text",
            "operation_status": "text",
            "integration": "text",
            "inserted_at": "moment",
            "operation_duration": "double",
            "rows_affected": "bigint",
        },
        [
            "'o1', 'r1', 't1', 'orders', 'MATERIALISATION', 'SUCCEEDED', 'DBT_CORE', '2024-05-02 23:59:59+00', 1.5, 10",
            "'o2', 'r1', 't1', 'lines', 'MATERIALISATION', 'FAILED', 'DBT_CORE', '2024-05-02 00:00:00+00', 0.25, null",
        ],
    ),
    "assets": (
        {
            "asset_id": "text",
            "asset_name": "text",
            "asset_type": "text",
            "integration": "text",
            "created_at": "moment",
            "updated_at": "moment",
        },
        ["'a1', 'orders', 'TABLE', 'DBT_CORE', '2024-05-01 00:00:00+00', '2024-05-02 23:59:59+00'"],
    ),
    "_runner_state": (_LEDGER, ["'pipelines', 1714694400", "'assets', 1714694400"]),
}
DATASETS: Mapping[str, dict[str, tuple[dict[str, str], list[str]]]] = {
    "raw_shop": SHOP,
    "orchestra_metadata": WORKSPACE,
}


def statements(warehouse: str) -> list[str]:
    """Return the statements that make both datasets in a warehouse."""
    made = []
    for dataset, tables in DATASETS.items():
        made.append(f"create schema {dataset}")
        for table, (columns, rows) in tables.items():
            types = [_type(warehouse, kind) for kind in columns.values()]
            spelled = ", ".join(f"{name} {kind}" for name, kind in zip(columns, types, strict=True))
            made.append(f"create table {dataset}.{table} ({spelled})")
            made.append(insert(warehouse, dataset, table, rows))
    return made


def insert(warehouse: str, dataset: str, table: str, rows: list[str]) -> str:
    """Return the statement that adds rows to a table."""
    columns = DATASETS[dataset][table][0]
    if "json" not in columns.values() or warehouse not in ("snowflake", "bigquery"):
        return f"insert into {dataset}.{table} values " + ", ".join(f"({row})" for row in rows)
    # These two take JSON only from a function, and functions only in a query.
    of_text = "parse_json({})"
    return f"insert into {dataset}.{table} " + " union all ".join(f"select {_call(row, of_text)}" for row in rows)


def _call(row: str, function: str) -> str:
    start, end = row.index("'{"), row.index("}'") + 2
    return row[:start] + function.format(row[start:end]) + row[end:]


def _type(warehouse: str, kind: str) -> str:
    name, _, size = kind.partition(" ")
    return TYPES[warehouse].get(name, name).format(size)
