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

from runner.errors import Busy, DestinationError, LeaseLost
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
from runner.rowhash import Digest
from runner.writers.folder import Changed, Document, Documents
from runner.writers.leases import Leases

_MOST_BYTES = 2**24
_BEHIND = "The table was loaded by somebody who does not know this state; it is planned anew when the run goes on."
_HELD = "Another run holds the table at the destination."


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
    def read(name: str, document: Document | None) -> _Known:
        """Return what a document says.

        Raises:
            DestinationError: Another version of the runner wrote it.
        """
        if document is None:
            return _Known()
        try:
            found = json.loads(document.data)
            state = TableState(**found["state"]) if found["state"] else None
            return _Known(state, found["columns"], found["asks"], found["rows"], document)
        except (ValueError, TypeError, KeyError) as error:
            raise DestinationError(
                f"The state of {name} cannot be read: {error}.",
                guidance="Another version of the runner wrote it: use that one, or delete the document.",
            ) from error

    def written(self) -> bytes:
        """Return the document."""
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
        # Tables whose lease is not ours at the destination.
        self._denied: set[str] = set()
        # Tables that were planned by a document that was behind the destination.
        self._behind: set[str] = set()

    def prepare(self) -> None:
        self._documents.prepare()

    def acquire(self, lease: Lease, tables: Iterable[str]) -> list[Held]:
        wanted = list(tables)
        self._lease = lease
        held = self._leases.acquire(lease, wanted)
        mine = [name for name in wanted if name not in {one.table for one in held}]
        read = self._documents.each(lambda name: _Known.read(name, self._documents.read(_path(name))), mine)
        self._known = dict(zip(mine, read, strict=True))
        return held

    def renew(self, lease: Lease) -> None:
        self._leases.renew(lease)
        if self._open:
            self._inner.renew(lease)

    def release(self, lease: Lease) -> None:
        try:
            if self._open:
                self._inner.release(lease)
        finally:
            self._leases.release(lease)

    def read_state(self, run: str | None) -> DatasetState:
        # Who takes no leases wants to look, and at what is there.
        if self._lease is None or any(one.asks for one in self._known.values()):
            return self._ask(run)
        tables = {name: one.state for name, one in self._known.items() if one.state is not None}
        existing = {name: one.columns for name, one in self._known.items() if one.columns is not None}
        return DatasetState(tables, existing)

    def _ask(self, run: str | None) -> DatasetState:
        """Return what the destination says, and note it."""
        held = self._begin(self._lease) if self._lease is not None else set()
        state = self._inner.read_state(run)
        # Of what is under way there, the destination is asked again.
        waiting = {*held, *state.plans, *(table for table, _ in state.chunks)}
        for name, known in self._known.items():
            newest = state.tables.get(name)
            same = known.state is not None and newest is not None and known.state.load_id == newest.load_id
            rows = known.rows if same else None
            found = replace(known, state=newest, columns=state.existing.get(name), asks=name in waiting, rows=rows)
            if found != known:
                self._note(name, found)
        return state

    def _begin(self, lease: Lease) -> set[str]:
        """Open the destination and take the leases there too; return the tables that somebody else has there."""
        if not self._open:
            self._inner.prepare()
            self._denied = {*self._known}
        if self._denied:
            self._denied = {one.table for one in self._inner.acquire(lease, sorted(self._denied))}
        self._open = True
        return self._denied

    def apply(self, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        sent: dict[int, TableWork] = {}
        for number, work in enumerate(works):
            try:
                self._leases.keep(lease)
                self._leases.check(lease, work.target.name)
                if self._stands_still(work):
                    outcomes[number] = self._stand_still(lease, work)
                else:
                    self._announce(work.target.name)
                    sent[number] = work
            except LeaseLost as error:
                outcomes[number] = Outcome(error=error)
        if sent:
            outcomes |= self._send(lease, sent)
        return [outcomes[number] for number in range(len(works))]

    def _stands_still(self, work: TableWork) -> bool:
        """Tell whether a publication brings nothing to the destination."""
        known, publication = self._known[work.target.name], work.publication
        if publication is None or known.asks or known.state is None or publication.hashes is not None:
            return False
        if publication.mode not in ("append", "incremental") or publication.replace:
            return False
        if publication.range is not None or publication.slice is not None:
            return False
        if publication.digest != known.state.digest or publication.base != known.state.load_id:
            return False
        if not any(publication.chunks.values()):
            return publication.deletion is None or publication.deletion.column is not None
        digest = _digest(work)
        same = digest is not None and digest == known.rows
        return same and publication.mode == "incremental" and publication.deletion is None

    def _stand_still(self, lease: Lease, work: TableWork) -> Outcome:
        """Note that there was nothing new, and where the mark is now."""
        known, publication = self._known[work.target.name], work.publication
        assert known.state is not None
        assert publication is not None
        state = replace(known.state, job=lease.job, run=lease.run)
        if publication.cursor == state.cursor and publication.mark is not None:
            state = replace(state, mark=publication.mark, token=publication.token)
        self._note(work.target.name, replace(known, state=state))
        return Outcome(still=True)

    def _announce(self, name: str) -> None:
        """Note that something is on its way to the destination, before it is."""
        known = self._known[name]
        if not known.asks or known.document is None:
            self._note(name, replace(known, asks=True))

    def _send(self, lease: Lease, works: dict[int, TableWork]) -> dict[int, Outcome]:
        if not self._open:
            self._compare(lease, works)
        held = self._begin(lease)
        outcomes: dict[int, Outcome] = {}
        for number, work in works.items():
            name = work.target.name
            if name in self._behind:
                outcomes[number] = Outcome(error=Busy(_BEHIND, table=name))
            elif name in held:
                outcomes[number] = Outcome(error=Busy(_HELD, table=name))
        sent = {number: work for number, work in works.items() if number not in outcomes}
        if sent:
            outcomes |= dict(zip(sent, self._inner.apply(lease, list(sent.values())), strict=True))
        published = [
            work for number, work in sent.items() if work.publication is not None and outcomes[number].error is None
        ]
        if published:
            state = self._inner.read_state(None)
            for work in published:
                name = work.target.name
                newest, columns = state.tables[name], state.existing[name]
                known = replace(self._known[name], state=newest, columns=columns, asks=False, rows=_digest(work))
                # It is published: a document that cannot be written goes on asking.
                with contextlib.suppress(DestinationError):
                    self._note(name, known)
        return outcomes

    def _compare(self, lease: Lease, works: dict[int, TableWork]) -> None:
        """Look whether the destination is what the documents said when the tables were planned."""
        self._begin(lease)
        state = self._inner.read_state(None)
        for work in works.values():
            name = work.target.name
            known, newest = self._known[name], state.tables.get(name)
            if (known.state and known.state.load_id) != (newest and newest.load_id):
                self._behind.add(name)

    def _note(self, name: str, known: _Known) -> None:
        """Write a document in place of the one that was read.

        Raises:
            LeaseLost: Somebody else wrote it since.
        """
        try:
            document = self._documents.replace(_path(name), known.written(), known.document)
        except Changed:
            raise LeaseLost(table=name) from None
        self._known[name] = replace(known, document=document)

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
        assert self._lease is not None
        self._begin(self._lease)
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
        try:
            self._inner.close()
        finally:
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
