"""What ``runner doctor`` asks a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.postgres.catalog import discover
from connectors.postgres.connection import Connections
from runner.errors import RunnerError
from runner.naming import quote

_MIN_VERSION = 12

_FACTS = """
select current_user as "user", current_setting('server_version_num')::int as version,
       current_setting('server_encoding') as encoding, pg_is_in_recovery() as standby,
       pg_has_role(current_user, 'pg_read_all_stats', 'usage') as stats,
       current_setting('max_connections')::int - (select count(*) from pg_stat_activity
           where backend_type = 'client backend') as free,
       coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as tls
"""


async def diagnose(
    connections: Connections, patterns: Sequence[str], wanted: Callable[[str], bool]
) -> list[tuple[str, str, str]]:
    """Return checks as (ok | warn | fail, what was found, what to do)."""
    try:
        async with connections.transaction() as connection:
            facts = await connection.fetchrow(_FACTS)
            found = await discover(connection, connections.config, patterns)
            tables = [table for table in found if wanted(table.qualified)]
    except RunnerError as error:
        return [("fail", error.message, error.advice)]
    finally:
        await connections.close()
    assert facts is not None
    version = facts["version"] // 10000
    checks = [("ok", f"{connections.where} answers (PostgreSQL {version}, TLS {'on' if facts['tls'] else 'off'})", "")]
    if version < _MIN_VERSION:
        checks.append(("warn", f"PostgreSQL {version} is older than {_MIN_VERSION}", "it is not tested with"))
    elif version < 14:
        checks.append(
            ("warn", "before PostgreSQL 14, tables are split by key only", "large tables without one take long")
        )
    if connections.pooled:
        checks.append(
            (
                "warn",
                "a pooler in transaction mode is in between: no single snapshot",
                "connect to the server itself for one consistent picture of all tables",
            )
        )
    if not facts["stats"]:
        checks.append(
            (
                "warn",
                f"{facts['user']} does not see other sessions: late commits cannot be ruled out",
                f"grant pg_monitor to {quote(facts['user'])}; or give incremental tables a lag",
            )
        )
    if facts["encoding"] == "SQL_ASCII":
        checks.append(
            ("warn", "the database does not check its text (SQL_ASCII)", "values that are not UTF-8 fail their table")
        )
    if facts["free"] < 5:
        checks.append(("warn", f"only {facts['free']} connections are free", "lower limits.connections"))
    denied = [table for table in tables if not table.readable]
    if denied:
        schemas = sorted({table.schema for table in denied})
        usage = "; ".join(f"grant usage on schema {quote(name)} to {quote(facts['user'])}" for name in schemas)
        selects = "; ".join(
            f"grant select on {quote(t.schema)}.{quote(t.name)} to {quote(facts['user'])}" for t in denied[:20]
        )
        checks.append(
            ("fail", f"{facts['user']} may not read {len(denied)} of {len(tables)} tables", f"{usage}; {selects};")
        )
    else:
        checks.append(("ok", f"{facts['user']} may read all {len(tables)} tables", ""))
    return checks
