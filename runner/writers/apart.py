"""State apart from the destination: leases, marks and history as documents in a database or an object store.

A run that finds nothing new does not open the destination, so that a warehouse that is paid by the minute sleeps on
(L10). The destination keeps its own records all the same, in the transaction of the rows, and they are the truth: a
document says of a table that they must be asked from before something is sent there until what became of it is known.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from runner.errors import DestinationBusy, LeaseLost
from runner.load import (
    DatasetState,
    Destination,
    Held,
    Lease,
    Outcome,
    RunRecord,
    TableState,
    TableWork,
    Target,
    Writer,
)
from runner.rowhash import Digest, Fingerprint
from runner.writers.folder import Changed, Document, Documents
from runner.writers.leases import Leases

_MOST_BYTES = 2**24


@dataclass(frozen=True)
class _Known:
    """What a document says of a table.

    Attributes:
        state: Its newest history row; None where it was never published.
        columns: Its columns and their types at the destination; None where it is not there.
        asks: Whether the destination has to be asked, for something was on its way there.
        rows: The digest of the rows that were merged last: an increment begins with those that the last one ended with.
        document: The document as it was read.
    """

    state: TableState | None = None
    columns: dict[str, str] | None = None
    asks: bool = True
    rows: str | None = None
    document: Document | None = None

    @staticmethod
    def read(document: Document | None) -> _Known:
        if document is None:
            return _Known()
        found = json.loads(document.data)
        state = TableState(**found["state"]) if found["state"] else None
        return _Known(state, found["columns"], found["asks"], found["rows"], document)

    def written(self) -> bytes:
        state = asdict(self.state) if self.state else None
        found = {"state": state, "columns": self.columns, "asks": self.asks, "rows": self.rows}
        return json.dumps(found).encode()


class StateApart:
    """A writer whose destination is opened when there is something to write.

    Args:
        inner: The destination's writer.
        documents: Where the dataset's state is.
    """

    def __init__(self, inner: Writer, documents: Documents) -> None:
        self._inner = inner
        self._documents = documents
        self._leases = Leases(documents)
        self._known: dict[str, _Known] = {}
        self._lease: Lease | None = None
        self._open = False

    def prepare(self) -> None:
        self._documents.prepare()

    def acquire(self, lease: Lease, tables: Iterable[str]) -> list[Held]:
        wanted = list(tables)
        self._lease = lease
        held = self._leases.acquire(lease, wanted)
        mine = [name for name in wanted if name not in {one.table for one in held}]
        read = self._documents.each(lambda name: _Known.read(self._documents.read(_path(name))), mine)
        self._known.update(zip(mine, read, strict=True))
        return held

    def renew(self, lease: Lease) -> None:
        self._leases.renew(lease)
        if self._open:
            self._inner.renew(lease)

    def release(self, lease: Lease) -> None:
        if self._open:
            self._inner.release(lease)
        self._leases.release(lease)

    def read_state(self, run: str | None) -> DatasetState:
        # Who has no leases wants to look, and at what is there.
        if any(one.asks for one in self._known.values()) or not self._known:
            return self._ask(run)
        tables = {name: one.state for name, one in self._known.items() if one.state is not None}
        existing = {name: one.columns for name, one in self._known.items() if one.columns is not None}
        return DatasetState(tables, existing)

    def _ask(self, run: str | None) -> DatasetState:
        """Return what the destination says, and note it."""
        if self._known:
            self._begin()
        state = self._inner.read_state(run)
        # Of what is under way there, the destination is asked again.
        waiting = {*state.plans, *(table for table, _ in state.chunks)}
        for name, known in self._known.items():
            newest = state.tables.get(name)
            same = known.state is not None and newest is not None and known.state.load_id == newest.load_id
            rows = known.rows if same else None
            found = replace(known, state=newest, columns=state.existing.get(name), asks=name in waiting, rows=rows)
            if found != known:
                self._note(name, found)
        return state

    def _begin(self) -> None:
        """Open the destination, and take the leases there too: its transactions check them."""
        assert self._lease is not None
        if self._open:
            return
        self._inner.prepare()
        self._open = True
        held = self._inner.acquire(self._lease, [*self._known])
        if held:
            raise DestinationBusy(
                f"The run {held[0].run} holds the table at the destination.",
                guidance="Give all jobs that load the table the same `state:`.",
                table=held[0].table,
            )

    def apply(self, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        outcomes = [self._stand_still(lease, work) for work in works]
        sent = [work for work, outcome in zip(works, outcomes, strict=True) if outcome is None]
        done = iter(self._send(lease, sent) if sent else [])
        return [next(done) if outcome is None else outcome for outcome in outcomes]

    def _stand_still(self, lease: Lease, work: TableWork) -> Outcome | None:
        """Publish that there is nothing new, without the destination; None where there is something for it."""
        known, publication = self._known[work.target.name], work.publication
        if publication is None or known.asks or known.state is None:
            return None
        adds = publication.mode in ("append", "incremental") and not publication.replace
        part = publication.range is not None or publication.slice is not None
        compares = publication.deletion is not None and publication.deletion.column is None
        changed = publication.digest != known.state.digest or publication.base != known.state.load_id
        if not adds or part or compares or changed:
            return None
        if any(publication.chunks.values()) and (publication.mode == "append" or _digest(work) != known.rows):
            return None
        moved = publication.cursor == known.state.cursor and publication.mark is not None
        mark = (publication.mark, publication.token) if moved else (known.state.mark, known.state.token)
        state = replace(known.state, job=lease.job, run=lease.run, mark=mark[0], token=mark[1])
        try:
            self._leases.check(lease, work.target.name)
            self._note(work.target.name, replace(known, state=state))
        except LeaseLost as error:
            return Outcome(error=error)
        return Outcome(hash=Fingerprint.parse(state.hash) if state.hash else None)

    def _send(self, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        for work in works:
            known = self._known[work.target.name]
            self._leases.check(lease, work.target.name)
            if not known.asks or known.document is None:
                self._note(work.target.name, replace(known, asks=True))
        self._begin()
        outcomes = self._inner.apply(lease, works)
        published = [
            work
            for work, outcome in zip(works, outcomes, strict=True)
            if work.publication is not None and outcome.error is None
        ]
        if published:
            state = self._inner.read_state(None)
            for work in published:
                name = work.target.name
                newest, columns = state.tables[name], state.existing[name]
                self._note(
                    name, replace(self._known[name], state=newest, columns=columns, asks=False, rows=_digest(work))
                )
        return outcomes

    def _note(self, name: str, known: _Known) -> None:
        try:
            self._documents.replace(_path(name), known.written(), known.document)
        except Changed:
            raise LeaseLost(table=name) from None
        self._known[name] = replace(known, document=self._documents.read(_path(name)))

    def record_run(self, record: RunRecord) -> None:
        path = f"runs/{record.run}.json"
        # Whoever goes on with a run tells how it stands; nobody else does.
        with contextlib.suppress(Changed):
            self._documents.replace(path, json.dumps(asdict(record)).encode(), self._documents.read(path))

    def register(self, targets: list[Target]) -> None:
        if self._open:
            self._inner.register(targets)

    def diagnose(self) -> list[tuple[str, str, str]]:
        return [("ok", f"state: {self._documents.probe()}", ""), *self._inner.diagnose()]

    # What is the destination's alone.

    def discard(self, target: Target) -> None:
        self._begin()
        self._inner.discard(target)

    def digest(self, target: Target, ask: Digest, **of: Any) -> list[tuple[Any, ...]]:
        return self._inner.digest(target, ask, **of)

    def rest(self) -> None:
        self._inner.rest()

    def held(self) -> contextlib.AbstractContextManager[None]:
        return self._inner.held()

    def interrupt(self) -> None:
        self._inner.interrupt()

    def close(self) -> None:
        self._inner.close()
        self._documents.close()


class DestinationApart:
    """A destination whose state is somewhere else.

    Args:
        inner: The destination.
        places: Returns the documents of a dataset's name.
    """

    def __init__(self, inner: Destination, places: Callable[[str], Documents]) -> None:
        self._inner = inner
        self._places = places
        self.max_name = inner.max_name
        self.promises = inner.promises
        self.metered = inner.metered
        self.unproved = inner.unproved

    @staticmethod
    def options_from_dlt(environ: Mapping[str, str]) -> dict[str, Any]:
        """Return none: they were read when the destination was made."""
        return {}

    def describe(self) -> str:
        return self._inner.describe()

    def writer(self, dataset: str) -> Writer:
        return StateApart(self._inner.writer(dataset), self._places(dataset))


def _digest(work: TableWork) -> str | None:
    """Return the digest of a work's rows as they are spooled; None where they are too many to look at twice."""
    if not work.one_chunk or work.bytes > _MOST_BYTES:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for chunk in work.chunks:
        for file in chunk.files:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _path(table: str) -> str:
    return f"tables/{table}.json"
