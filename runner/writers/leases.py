"""Leases as documents: which run may publish a table, by compare and swap."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any

from runner.errors import DestinationBusy, LeaseLost
from runner.load import LEASE_SECONDS, RENEW_SECONDS, Held, Lease
from runner.writers.folder import Changed, Document, Documents
from runner.writers.rowleases import is_alive

_TRIES = 5


class Leases:
    """The leases of one dataset. A lease that was given back stays as a document that has expired."""

    def __init__(self, store: Documents) -> None:
        self._store = store
        self._asked: set[str] = set()
        self._renewed = time.monotonic()

    def acquire(self, lease: Lease, tables: Sequence[str]) -> list[Held]:
        """Take tables; return those that others hold."""
        if not tables:
            return []
        self._asked |= set(tables)
        now = self._store.now()
        self._renewed = time.monotonic()
        return [held for held in self._store.each(lambda table: self._take(lease, table, now), tables) if held]

    def renew(self, lease: Lease) -> None:
        """Prolong what the run still holds."""
        self._renewed = time.monotonic()
        self._rewrite(lease, self._store.now() + LEASE_SECONDS)

    def keep(self, lease: Lease) -> None:
        """Prolong it if that is due: reading much back can take longer than a lease lasts."""
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self.renew(lease)

    def release(self, lease: Lease) -> None:
        """Give back what the run holds."""
        self._rewrite(lease, 0)

    def check(self, lease: Lease, table: str) -> None:
        """See that the run still holds a table.

        Raises:
            LeaseLost: Another run took it over.
        """
        found = self._store.read(_path(table))
        if found is None or json.loads(found.data)["token"] != lease.token:
            raise LeaseLost(table=table)

    def _take(self, lease: Lease, table: str, now: float) -> Held | None:
        for _ in range(_TRIES):
            before = self._store.read(_path(table))
            held = json.loads(before.data) if before else None
            if held is not None and not _free(held, lease, now):
                return Held(table, held["run"], held["host"], held["pid"], held["expires_at"] - now)
            with contextlib.suppress(Changed):
                self._write(lease, table, now + LEASE_SECONDS, before)
                return None
        raise DestinationBusy(f"Several runs ask for the table {table} at once.", table=table)

    def _rewrite(self, lease: Lease, expires_at: float) -> None:
        def one(table: str) -> None:
            before = self._store.read(_path(table))
            # Whoever wrote it meanwhile has it now.
            with contextlib.suppress(Changed):
                if before is not None and json.loads(before.data)["token"] == lease.token:
                    self._write(lease, table, expires_at, before)

        self._store.each(one, sorted(self._asked))

    def _write(self, lease: Lease, table: str, expires_at: float, before: Document | None) -> None:
        document = {"run": lease.run, "token": lease.token, "host": lease.host, "pid": lease.pid}
        self._store.replace(_path(table), json.dumps({**document, "expires_at": expires_at}).encode(), before)


def _free(held: dict[str, Any], lease: Lease, now: float) -> bool:
    if held["expires_at"] < now or held["run"] == lease.run:
        return True
    return bool(held["host"] == lease.host and held["pid"] != lease.pid and not is_alive(held["pid"]))


def _path(table: str) -> str:
    return f"_runner/leases/{table}.json"
