"""Leases as rows: which run may publish a table, in a SQL database."""

from __future__ import annotations

import os
from collections.abc import Sequence

from runner.load import LEASE_SECONDS, Held, Lease
from runner.naming import literal
from runner.writers.cursor import Cursor

_COLUMNS = "(table_name, run, token, host, pid, expires_at)"


class RowLeases:
    """The leases of one dataset, one row for each table.

    Args:
        table: The quoted name of the table that holds them.
        seconds: The database's clock as SQL, in seconds since 1970: the clock of all leases.
    """

    def __init__(self, table: str, seconds: str) -> None:
        self._table = table
        self._seconds = seconds

    def acquire(self, cursor: Cursor, lease: Lease, tables: Sequence[str]) -> list[Held]:
        """Take tables; return those that others hold."""
        others = cursor.rows(f"select distinct host, pid from {self._table} where host = ?", [lease.host])
        dead = [pid for _, pid in others if pid != lease.pid and not is_alive(pid)] or [-1]
        gone = ", ".join(str(int(pid)) for pid in dead)
        cursor.execute("begin")
        self._add(
            cursor,
            lease,
            tables,
            "on conflict (table_name) do update set run = excluded.run, token = excluded.token, "
            "host = excluded.host, pid = excluded.pid, expires_at = excluded.expires_at "
            f"where l.expires_at < {self._seconds} or l.run = excluded.run "
            f"or (l.host = excluded.host and l.pid in ({gone}))",
        )
        cursor.execute("commit")
        rows = cursor.rows(
            f"select table_name, run, host, pid, expires_at - {self._seconds} from {self._table} where token <> ?",
            [lease.token],
        )
        mine = set(tables)
        return [Held(*row) for row in rows if row[0] in mine]

    def held(self, cursor: Cursor, lease: Lease, tables: Sequence[str]) -> set[str]:
        """Return those of the tables whose lease is ours."""
        marks = ", ".join("?" * len(tables))
        held = f"select table_name from {self._table} where table_name in ({marks}) and token = ?"
        return {row[0] for row in cursor.rows(held, [*tables, lease.token])}

    def renew(self, cursor: Cursor, lease: Lease) -> None:
        """Prolong what the run holds."""
        cursor.execute(
            f"update {self._table} set expires_at = {self._seconds} + {LEASE_SECONDS} where token = ?", [lease.token]
        )

    def release(self, cursor: Cursor, lease: Lease) -> None:
        """Give back what the run holds."""
        # By run, not by token: a killed process of the same run may have left some.
        cursor.execute(f"delete from {self._table} where run = ?", [lease.run])

    def _add(self, cursor: Cursor, lease: Lease, tables: Sequence[str], otherwise: str = "") -> None:
        for start in range(0, len(tables), 500):
            part = tables[start : start + 500]
            values = ", ".join(f"(?, ?, ?, ?, ?, {self._seconds} + {LEASE_SECONDS})" for _ in part)
            named = f"{self._table} as l" if otherwise else self._table
            cursor.execute(
                f"insert into {named} {_COLUMNS} values {values} {otherwise}",
                [value for table in part for value in (table, lease.run, lease.token, lease.host, lease.pid)],
            )


class Claims(RowLeases):
    """Leases where a changed row locks its table: claims are only added, and of a table's the earliest counts.

    Two who ask at the same moment may both be told that they hold it, for a row shows up later than its time says. What
    decides is the check before the commit.
    """

    def acquire(self, cursor: Cursor, lease: Lease, tables: Sequence[str]) -> list[Held]:
        self._delete_dead(cursor, lease)
        self._add(cursor, lease, tables)
        mine = self.held(cursor, lease, tables)
        lost = [name for name in tables if name not in mine]
        if not lost:
            return []
        # A claim that waits for its turn would be the holder one day without knowing it.
        listed = ", ".join(literal(name) for name in lost)
        cursor.execute(f"delete from {self._table} where token = ? and table_name in ({listed})", [lease.token])
        rows = cursor.rows(
            f"select table_name, run, host, pid, max(expires_at) - {self._seconds} from {self._table} "
            f"where table_name in ({listed}) group by table_name, run, host, pid"
        )
        return [Held(table, run, host, pid, float(left)) for table, run, host, pid, left in rows]

    def _delete_dead(self, cursor: Cursor, lease: Lease) -> None:
        for run, token, host, pid in cursor.rows(f"select distinct run, token, host, pid from {self._table}"):
            gone = host == lease.host and pid != lease.pid and not is_alive(pid)
            if token != lease.token and (run == lease.run or gone):
                cursor.execute(f"delete from {self._table} where token = ?", [token])
        # A claim that ran out must not come to life again by a renewal that was late.
        expired = f"select token from {self._table} group by token having max(expires_at) < {self._seconds}"
        if cursor.rows(f"{expired} limit 1"):
            cursor.execute(f"delete from {self._table} where token in ({expired})")

    def held(self, cursor: Cursor, lease: Lease, tables: Sequence[str]) -> set[str]:
        listed = ", ".join(literal(name) for name in tables)
        rows = cursor.rows(
            f"select table_name, token, min(expires_at) from {self._table} "
            f"where table_name in ({listed}) group by table_name, token having max(expires_at) >= {self._seconds}"
        )
        first: dict[str, tuple[float, str]] = {}
        for name, token, claimed in rows:
            first[name] = min(first.get(name, (float("inf"), "")), (float(claimed), token))
        return {name for name, (_, token) in first.items() if token == lease.token}

    def condition(self, lease: Lease, tables: Sequence[str]) -> str:
        """Return the condition that held() returns all of the tables, for where it has to be part of a script."""
        listed = ", ".join(literal(name) for name in tables)
        living = (
            f"select table_name, token, min(expires_at) as claimed from {self._table} where table_name in ({listed}) "
            f"group by table_name, token having max(expires_at) >= {self._seconds}"
        )
        places = "row_number() over (partition by table_name order by claimed, token) as place"
        first = f"select table_name, token, {places} from ({living}) l"
        ours = f"select count(*) from ({first}) f where place = 1 and token = {literal(lease.token)}"
        return f"({ours}) = {len(set(tables))}"

    def renew(self, cursor: Cursor, lease: Lease) -> None:
        cursor.execute(
            f"insert into {self._table} {_COLUMNS} "
            f"select distinct table_name, run, token, host, pid, {self._seconds} + {LEASE_SECONDS} "
            f"from {self._table} where token = ?",
            [lease.token],
        )


def is_alive(pid: int) -> bool:
    """Tell whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
