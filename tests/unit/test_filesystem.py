"""Parquet files behind a manifest, in a folder and in an emulator of S3: the writer itself."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.errors import (
    CredentialsRejected,
    DatabaseMissing,
    DestinationDown,
    DestinationError,
    DestinationRefused,
    DiskFull,
    LeaseLost,
    NotOurs,
    ReadOnly,
    RunnerError,
    SchemaConflict,
    Unreachable,
    UsageError,
    VerifyFailed,
)
from runner.load import (
    ChunkLoad,
    Deletion,
    Lease,
    Outcome,
    Publication,
    Range,
    Receipt,
    RunRecord,
    TableWork,
    Target,
    TargetColumn,
)
from runner.rowhash import Digest, Field, Fingerprint, Hasher, by_prefix, total
from runner.writers.filesystem import Filesystem, FilesystemWriter
from runner.writers.folder import Changed, Folder
from runner.writers.objects import Objects

if TYPE_CHECKING:
    from tests.servers import Moto

pytest_plugins = ("tests.servers",)

_SECRET = "a-very-secret-key"
_ALICE = Lease("job", "run-a", "token-a", "host-a", 1)
_BOB = Lease("job", "run-b", "token-b", "host-b", 2)


def _columns(**types: pa.DataType) -> tuple[TargetColumn, ...]:
    return tuple(TargetColumn(name, name, kind, True) for name, kind in types.items())


_TARGET = Target("t", _columns(id=pa.int64(), note=pa.string()), source="pg", source_table="public.t")


@dataclass
class Lake:
    """A destination in one of the two places, and what a test wants to see of it."""

    options: dict[str, Any]
    folder: Path
    spooled: int = 0
    ids: Iterator[int] = field(default_factory=lambda: iter(range(1, 1000)))

    def writer(self, **options: Any) -> FilesystemWriter:
        made = Filesystem({**self.options, **options}, folder=self.folder, memory=2**28)
        return made.writer("raw")

    def chunk(self, rows: Sequence[tuple[int, str | None]], name: str = "c0", epoch: int = 1) -> ChunkLoad:
        table = pa.table({"id": pa.array([row[0] for row in rows], pa.int64()),
                          "note": pa.array([row[1] for row in rows], pa.string())})  # fmt: skip
        return self.spool(table, name, epoch)

    def spool(self, table: pa.Table, name: str = "c0", epoch: int = 1, files: int = 1) -> ChunkLoad:
        paths = []
        size = max(1, -(-table.num_rows // files))
        for start in range(0, table.num_rows, size):
            self.spooled += 1
            paths.append(self.folder / f"{self.spooled}.parquet")
            pq.write_table(table.slice(start, size), paths[-1], row_group_size=max(1, size // 2), compression="zstd")
        bytes_ = sum(path.stat().st_size for path in paths)
        return ChunkLoad(name, epoch, tuple(paths), table.num_rows, bytes_, str(_hash(table)), "picture")

    def publication(self, *chunks: ChunkLoad, **more: Any) -> Publication:
        return Publication(
            **{
                "load_id": f"load-{next(self.ids)}",
                "mode": "full",
                "replace": True,
                "chunks": {chunk.id: chunk.rows for chunk in chunks},
                "digest": "d",
                "hashes": {chunk.id: Fingerprint.parse(str(chunk.hash)) for chunk in chunks},
                **more,
            }
        )

    def publish(self, rows: Sequence[tuple[int, str | None]], lease: Lease = _ALICE, **more: Any) -> Outcome:
        """Load and publish one chunk, on what is published now."""
        writer = self.writer()
        chunk = self.chunk(rows)
        return self.apply(writer, lease, [chunk], base=_newest(writer), **more)

    def apply(
        self, writer: FilesystemWriter, lease: Lease, chunks: list[ChunkLoad], target: Target = _TARGET, **more: Any
    ) -> Outcome:
        work = TableWork(target, chunks, self.publication(*chunks, **more), fresh=True, plan="the plan")
        return writer.apply(lease, [work])[0]

    def read(self, path: str) -> Any:
        found = self.writer()._store.read(path)
        return json.loads(found.data) if found else None

    def manifest(self, table: str = "t") -> Any:
        return self.read(f"{table}/manifest.json")

    def files(self) -> list[str]:
        return [path for path in self.writer()._store.files("t", deep=True) if path.endswith(".parquet")]

    def rows(self, table: str = "t") -> list[tuple[Any, ...]]:
        """Read what the manifest names, and nothing else."""
        store, manifest = self.writer()._store, self.manifest(table)
        names = [column["name"] for column in manifest["columns"]]
        found: list[tuple[Any, ...]] = []
        for file in manifest["files"]:
            with store.open(f"{table}/{file['name']}") as opened:
                rows = pq.ParquetFile(opened).read().to_pylist()
            found += [tuple(row.get(name) for name in names) for row in rows]
        return sorted(found)

    def overwrite(self, path: str, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self.writer()._store.write(path, [sink.getvalue().to_pybytes()])


def _hash(table: pa.Table) -> Fingerprint:
    hasher = Hasher([Field(one.name, one.type) for one in table.schema])
    for batch in table.to_batches():
        hasher.add(batch)
    return hasher.total


def _newest(writer: FilesystemWriter) -> str | None:
    state = writer._manifest("t").newest
    return state.load_id if state else None


def _good(outcome: Outcome) -> Outcome:
    assert outcome.error is None, outcome.error
    return outcome


@pytest.fixture
def s3(s3_server: Moto, tmp_path: Path) -> Lake:
    bucket = s3_server.make_bucket(f"lake-{uuid.uuid4().hex}")
    options = {"url": f"s3://{bucket}/lake", "endpoint": s3_server.url, "region": "us-east-1", "allow_http": True,
               "access_key_id": "an-id", "secret_access_key": _SECRET}  # fmt: skip
    return Lake(options, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Lake:
    return Lake({"url": "lake"}, tmp_path)


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest) -> Lake:
    """A dataset whose table t is leased to Alice."""
    made: Lake = request.getfixturevalue(request.param)
    assert made.writer().acquire(_ALICE, ["t"]) == []
    return made


# What a publication is.


def test_a_full_refresh_shows_the_new_rows_and_nothing_else(lake: Lake) -> None:
    first = _good(lake.publish([(1, "a"), (2, None)], cursor="id", mark="2", token="picture"))
    assert lake.rows() == [(1, "a"), (2, None)]
    second = _good(lake.publish([(3, "c")]))
    assert lake.rows() == [(3, "c")]
    assert (first.rows, second.rows) == (2, 1)
    manifest = lake.manifest()
    assert manifest["columns"][0] == {"name": "id", "type": "int64", "nullable": True, "json": False}
    rows = manifest["history"]
    assert [(row["seq"], row["load_id"], row["rows"], row["mark"], row["token"]) for row in rows] == [
        (1, "load-1", 2, "2", "picture"),
        (2, "load-2", 1, None, None),
    ]
    assert second.hash is not None
    assert rows[1]["hash"] == manifest["files"][0]["hash"] == str(second.hash)
    state = lake.writer().read_state("run-a")
    assert state.tables["t"].load_id == "load-2"
    assert state.existing == {"t": {"id": "int64", "note": "string"}}


def test_an_append_adds_files_and_carries_mark_and_hash(lake: Lake) -> None:
    _good(lake.publish([(1, "a")], mode="append", cursor="id", mark="1", token="one"))
    added = _good(lake.publish([(2, "b")], mode="append", replace=False, cursor="id"))
    assert lake.rows() == [(1, "a"), (2, "b")]
    newest = lake.manifest()["history"][-1]
    assert (newest["mark"], newest["token"], newest["rows"]) == ("1", "one", 1)
    whole = _hash(pa.table({"id": [1, 2], "note": ["a", "b"]}))
    assert added.hash == whole == Fingerprint.parse(newest["hash"])
    unknown = _good(lake.publish([(3, "c")], mode="append", replace=False, hashes=None))
    assert unknown.hash == added.hash + _hash(pa.table({"id": [3], "note": ["c"]}))


def test_an_empty_table_is_published(lake: Lake) -> None:
    empty = ChunkLoad("c0", 1, (), 0, 0, str(Fingerprint()), None)
    writer = lake.writer()
    outcome = _good(lake.apply(writer, _ALICE, [empty]))
    assert outcome.hash == Fingerprint()
    assert lake.manifest()["files"] == []
    assert writer.read_state(None).existing["t"] == {"id": "int64", "note": "string"}


def test_the_same_publication_again_does_nothing(lake: Lake) -> None:
    chunk = lake.chunk([(1, "a")])
    work = TableWork(_TARGET, [chunk], lake.publication(chunk), fresh=True)
    first = _good(lake.writer().apply(_ALICE, [work])[0])
    before, files = lake.manifest(), lake.files()
    again = _good(lake.writer().apply(_ALICE, [work])[0])
    assert (again.rows, again.hash) == (0, first.hash)
    assert (lake.manifest(), lake.files()) == (before, files)


def test_a_chunk_that_has_its_receipt_is_not_written_again(lake: Lake) -> None:
    writer = lake.writer()
    assert writer.apply(_ALICE, [TableWork(_TARGET, [lake.chunk([(1, "a")])], fresh=True, plan="p")])[0].rows == 1
    # Its spooled file is gone by now; asking for it again must not even look.
    known = ChunkLoad("c0", 1, (Path("gone"),), 1, 1)
    assert _good(writer.apply(_ALICE, [TableWork(_TARGET, [known])])[0]).rows == 0
    state = writer.read_state("run-a")
    assert state.plans == {"t": "p"}
    hash_ = str(_hash(pa.table({"id": [1], "note": ["a"]})))
    assert state.chunks == {("t", "c0"): Receipt("run-a", 1, 1, hash_, "picture")}


def test_a_load_that_was_killed_writes_the_same_files_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(name: str, table: str | None) -> None:
        if name == "load-staged":
            raise Killed

    work = TableWork(_TARGET, [lake.chunk([(1, "a")])], fresh=True)
    with monkeypatch.context() as patched:
        patched.setattr("runner.writers.filesystem.crash_point", kill)
        with pytest.raises(Killed):
            lake.writer().apply(_ALICE, [work])
    left = lake.files()
    assert lake.writer().read_state("run-a").chunks == {}
    _good(lake.writer().apply(_ALICE, [work])[0])
    assert lake.files() == left != []


def test_a_chunk_that_was_read_again_replaces_the_older_one(lake: Lake) -> None:
    writer = lake.writer()
    for epoch, rows in ((1, [(1, "old")]), (2, [(1, "new"), (2, "new")])):
        work = TableWork(_TARGET, [lake.chunk(rows, epoch=epoch)], fresh=epoch == 1)
        _good(writer.apply(_ALICE, [work])[0])
    chunk = lake.chunk([(1, "new"), (2, "new")], epoch=2)
    work = TableWork(_TARGET, [], lake.publication(chunk))
    _good(writer.apply(_ALICE, [work])[0])
    assert lake.rows() == [(1, "new"), (2, "new")]
    assert len(lake.files()) == 1


def test_another_run_goes_on_with_what_is_staged(lake: Lake) -> None:
    one, two = lake.chunk([(1, "a")], "c1"), lake.chunk([(2, "b")], "c2")
    writer = lake.writer()
    writer.acquire(_ALICE, ["t"])
    _good(writer.apply(_ALICE, [TableWork(_TARGET, [one], fresh=True, plan="p")])[0])
    writer.release(_ALICE)
    other = lake.writer()
    assert other.acquire(_BOB, ["t"]) == []
    state = other.read_state("run-b")
    assert (state.plans, list(state.chunks)) == ({"t": "p"}, [("t", "c1")])
    _good(other.apply(_BOB, [TableWork(_TARGET, [two], lake.publication(one, two))])[0])
    assert lake.rows() == [(1, "a"), (2, "b")]
    after = other.read_state("run-b")
    assert after.plans == {}
    assert list(after.chunks) == [("t", "c2")]


def test_columns_have_the_names_of_the_destination(lake: Lake) -> None:
    table = pa.table({"Id": pa.array(range(10), pa.int64()), "Näme": [f"n{i}" for i in range(10)]})
    columns = (TargetColumn("Id", "id", pa.int64(), True), TargetColumn("Näme", "n_me", pa.string(), True))
    target = replace(_TARGET, columns=columns)
    chunk = lake.spool(table, files=2)
    renamed = table.rename_columns(["id", "n_me"])
    chunk = replace(chunk, hash=str(_hash(renamed)))
    outcome = _good(lake.apply(lake.writer(), _ALICE, [chunk], target))
    assert outcome.hash == _hash(renamed)
    assert lake.rows() == [(i, f"n{i}") for i in range(10)]
    assert len(lake.files()) == 2


# Who may publish.


def test_a_table_that_somebody_published_since_is_left_alone(lake: Lake) -> None:
    _good(lake.publish([(1, "a")]))
    late = lake.apply(lake.writer(), _ALICE, [lake.chunk([(2, "b")])], base=None)
    assert isinstance(late.error, LeaseLost)
    assert lake.rows() == [(1, "a")]


def test_of_two_publications_at_once_one_stands(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is checked before, the replacement of the manifest decides."""
    _good(lake.publish([(1, "a")]))
    late = lake.writer()
    passed: list[str] = []

    def meanwhile(name: str, table: str | None) -> None:
        passed.append(name)
        if passed.count("swap") == 1 and name == "swap":
            _good(lake.publish([(2, "in between")]))

    monkeypatch.setattr("runner.writers.filesystem.crash_point", meanwhile)
    outcome = lake.apply(late, _ALICE, [lake.chunk([(3, "late")])], base="load-1")
    assert isinstance(outcome.error, LeaseLost)
    assert lake.rows() == [(2, "in between")]


def test_an_answer_that_came_too_late_is_no_rival(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that was given up may still replace the manifest, just before the next attempt does."""
    chunk = lake.chunk([(1, "a")])
    work = TableWork(_TARGET, [chunk], lake.publication(chunk), fresh=True)
    passed: list[str] = []

    def meanwhile(name: str, table: str | None) -> None:
        passed.append(name)
        if passed.count("swap") == 1 and name == "swap":
            _good(lake.writer().apply(_ALICE, [work])[0])

    monkeypatch.setattr("runner.writers.filesystem.crash_point", meanwhile)
    outcome = _good(lake.writer().apply(_ALICE, [work])[0])
    assert outcome.hash == _hash(pa.table({"id": [1], "note": ["a"]}))
    assert len(lake.manifest()["history"]) == 1
    assert lake.rows() == [(1, "a")]


def test_a_lease_of_a_living_run_is_respected_and_a_dead_one_taken_over(lake: Lake) -> None:
    first = lake.writer()
    held = first.acquire(_BOB, ["t", "u"])
    assert [(one.table, one.run, one.host, one.pid) for one in held] == [("t", "run-a", "host-a", 1)]
    # A lease lasts from when it was written, which is a moment after the clock was asked.
    assert 0 < held[0].seconds <= 61
    # The same run takes over at once; so does anybody once the holder's process is gone on this host.
    assert first.acquire(Lease("job", "run-a", "token-c", "elsewhere", 3), ["t"]) == []
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert first.acquire(Lease("job", "run-d", "token-d", socket.gethostname(), gone.pid), ["v"]) == []
    assert first.acquire(Lease("job", "run-e", "token-e", socket.gethostname(), 1), ["v"]) == []


def test_a_lease_expires_is_prolonged_and_given_back(lake: Lake) -> None:
    alice, bob = lake.writer(), lake.writer()
    alice.acquire(_ALICE, ["t"])
    _expire(lake)
    alice.renew(_ALICE)
    assert [one.run for one in bob.acquire(_BOB, ["t"])] == ["run-a"]
    _expire(lake)
    assert bob.acquire(_BOB, ["t"]) == []
    # It is Bob's now: neither prolonging nor giving back what was Alice's touches it.
    alice.renew(_ALICE)
    alice.release(_ALICE)
    assert lake.read("_runner/leases/t.json")["run"] == "run-b"
    assert [one.run for one in alice.acquire(_ALICE, ["t"])] == ["run-b"]
    bob.release(_BOB)
    assert alice.acquire(_ALICE, ["t"]) == []


def _expire(lake: Lake) -> None:
    store = lake.writer()._store
    before = store.read("_runner/leases/t.json")
    assert before is not None
    store.replace("_runner/leases/t.json", json.dumps({**json.loads(before.data), "expires_at": 1}).encode(), before)


def test_an_expired_holder_cannot_publish(lake: Lake) -> None:
    _expire(lake)
    assert lake.writer().acquire(_BOB, ["t"]) == []
    outcome = lake.publish([(1, "late")])
    assert isinstance(outcome.error, LeaseLost)
    assert lake.manifest() is None


def test_a_holder_that_expires_while_it_verifies_cannot_publish(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def expire(name: str, table: str | None) -> None:
        if name == "verify":
            _expire(lake)
            lake.writer().acquire(_BOB, ["t"])

    monkeypatch.setattr("runner.writers.filesystem.crash_point", expire)
    assert isinstance(lake.publish([(1, "late")]).error, LeaseLost)
    assert lake.manifest() is None


def test_a_long_publication_keeps_its_lease(folder: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = folder.writer()
    writer.prepare()
    writer.acquire(_ALICE, ["t"])
    _expire(folder)
    monkeypatch.setattr("runner.writers.leases.RENEW_SECONDS", -1)
    _good(folder.apply(writer, _ALICE, [folder.chunk([(1, "a")])]))
    assert folder.read("_runner/leases/t.json")["expires_at"] > 1


def test_files_of_somebody_else_are_not_taken_over_unasked(lake: Lake) -> None:
    lake.overwrite("t/1712.abc.parquet", pa.table({"id": [7]}))
    assert lake.writer().read_state(None).existing == {"t": {}}
    assert isinstance(lake.publish([(1, "a")]).error, NotOurs)
    _good(lake.publish([(1, "a")], adopt=True))
    assert lake.rows() == [(1, "a")]
    assert "t/1712.abc.parquet" in lake.files()
    other = replace(_TARGET, source_table="public.other")
    chunk = lake.chunk([(2, "b")])
    outcome = lake.apply(lake.writer(), _ALICE, [chunk], other, base=_newest(lake.writer()))
    assert isinstance(outcome.error, NotOurs)


# What is verified.


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(1, "a"), (2, "changed")], "the source sent 2 rows and 2 rows arrived, and their values differ"),
        ([(1, "a")], "the source sent 2 rows and 1 rows arrived"),
        (None, "files that cannot be read arrived"),
    ],
)
def test_a_file_that_is_not_what_was_read_stops_the_publication(
    lake: Lake, rows: list[tuple[int, str]] | None, words: str
) -> None:
    good, bad = lake.chunk([(9, "z")], "c1"), lake.chunk([(1, "a"), (2, "b")], "c2")
    writer = lake.writer()
    _good(writer.apply(_ALICE, [TableWork(_TARGET, [good, bad], fresh=True)])[0])
    path = next(path for path in lake.files() if "/c2-1" in path)
    if rows is None:
        writer._store.write(path, [b"PAR1 is not all of it"])
    else:
        lake.overwrite(path, pa.table({"id": [row[0] for row in rows], "note": [row[1] for row in rows]}))
    found = writer.apply(_ALICE, [TableWork(_TARGET, [], lake.publication(good, bad))])[0]
    assert isinstance(found.error, VerifyFailed)
    assert found.error.message.startswith("1 of 2 chunks differ; of chunk c2 ")
    assert words in found.error.message
    assert found.error.context["chunks"] == "c2"
    assert lake.manifest() is None
    counted = writer.apply(_ALICE, [TableWork(_TARGET, [], lake.publication(good, bad, hashes=None))])[0]
    # Counts alone cannot see a changed value.
    assert (counted.error is None) == (rows is not None and len(rows) == 2)


def test_a_file_that_is_gone_stops_the_publication(lake: Lake) -> None:
    chunk = lake.chunk([(1, "a")])
    writer = lake.writer()
    _good(writer.apply(_ALICE, [TableWork(_TARGET, [chunk], fresh=True)])[0])
    writer._store.delete(lake.files())
    found = writer.apply(_ALICE, [TableWork(_TARGET, [], lake.publication(chunk))])[0]
    assert isinstance(found.error, VerifyFailed)


def test_a_store_that_is_gone_while_files_are_read_back_is_not_a_difference(
    s3: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise DestinationDown

    writer = s3.writer()
    writer.prepare()
    writer.acquire(_ALICE, ["t"])
    monkeypatch.setattr(Objects, "read_range", fail)
    for hashes in ({"c0": Fingerprint()}, None):
        with pytest.raises(DestinationDown):
            s3.apply(writer, _ALICE, [s3.chunk([(1, "a")])], hashes=hashes)
    monkeypatch.undo()
    _good(s3.apply(writer, _ALICE, [s3.chunk([(1, "a")])]))


@pytest.mark.parametrize("verify", [True, False])
def test_a_chunk_without_files_is_never_published(lake: Lake, verify: bool) -> None:
    chunk = lake.chunk([(1, "a")])
    work = TableWork(_TARGET, [], lake.publication(chunk, verify=verify, hashes=None), fresh=True)
    assert isinstance(lake.writer().apply(_ALICE, [work])[0].error, VerifyFailed)


def test_a_staged_chunk_that_nobody_read_is_not_published(lake: Lake) -> None:
    one, other = lake.chunk([(1, "a")], "c1"), lake.chunk([(2, "b")], "c2")
    work = TableWork(_TARGET, [one, other], lake.publication(one), fresh=True)
    found = lake.writer().apply(_ALICE, [work])[0]
    assert isinstance(found.error, VerifyFailed)
    assert "of chunk c2 the source sent 0 rows and 1 rows arrived" in found.error.message


# What is cleaned up.


def test_the_version_before_stays_until_the_next_publication(lake: Lake) -> None:
    names = []
    for number in range(3):
        _good(lake.publish([(number, "x")]))
        names.append(lake.manifest()["files"][0]["name"])
    assert lake.files() == sorted(f"t/{name}" for name in names[1:])
    _good(lake.publish([(9, "added")], mode="append", replace=False))
    assert len(lake.files()) == 2
    assert f"t/{names[2]}" in lake.files()


def test_what_a_run_left_behind_goes_with_the_next_publication(lake: Lake) -> None:
    abandoned = [lake.chunk([(1, "x")], "c1"), lake.chunk([(2, "x")], "c2")]
    _good(lake.writer().apply(_ALICE, [TableWork(_TARGET, abandoned, fresh=True)])[0])
    _good(lake.publish([(3, "c")]))
    # The name of a publication that is still to come is somebody's at work.
    lake.overwrite("t/000002-run-b/c7-1.parquet", pa.table({"id": [7]}))
    _good(lake.publish([(4, "d")]))
    assert [path for path in lake.files() if "c1" in path or "c2" in path or "c7" in path] == []
    lake.overwrite("t/000004-run-b/c7-1.parquet", pa.table({"id": [7]}))
    _good(lake.publish([(5, "e")]))
    assert "t/000004-run-b/c7-1.parquet" in lake.files()


def test_a_publication_stands_although_nothing_can_be_removed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ReadOnly

    for _ in range(3):
        writer = lake.writer()
        monkeypatch.setattr(writer._store, "delete", refuse)
        _good(lake.apply(writer, _ALICE, [lake.chunk([(1, "a")])], base=_newest(writer)))
    assert len(lake.files()) == 3


# Columns that change.


_WIDER = Target("t", _columns(id=pa.int64(), extra=pa.string()), source="pg", source_table="public.t")


def test_a_new_column_is_null_in_older_files(lake: Lake) -> None:
    _good(lake.publish([(1, "a")], mode="append"))
    writer = lake.writer()
    chunk = lake.spool(pa.table({"id": pa.array([2], pa.int64()), "extra": ["e"]}))
    more = {"mode": "append", "replace": False, "base": _newest(writer)}
    outcome = _good(lake.apply(writer, _ALICE, [chunk], _WIDER, **more))
    assert outcome.changes == ["column extra added (string)", "column note is gone at the source"]
    assert lake.rows() == [(1, "a", None), (2, None, "e")]
    assert outcome.hash is None
    assert lake.manifest()["history"][-1]["hash"] is None
    whole = replace(_TARGET, columns=_columns(id=pa.int64(), note=pa.string(), extra=pa.string()))
    rows = pa.table({"id": [1, 2], "note": ["a", None], "extra": [None, "e"]})
    assert total(by_prefix(writer.digest(whole, Digest())).values()) == _hash(rows)


def test_a_changed_type_is_refused_where_rows_are_added(lake: Lake) -> None:
    _good(lake.publish([(1, "a")], mode="append"))
    writer = lake.writer()
    target = replace(_TARGET, columns=_columns(id=pa.int64(), note=pa.int32()))
    chunk = lake.spool(pa.table({"id": pa.array([2], pa.int64()), "note": pa.array([7], pa.int32())}))
    base = _newest(writer)
    refused = lake.apply(writer, _ALICE, [chunk], target, mode="append", replace=False, base=base)
    assert isinstance(refused.error, SchemaConflict)
    assert "'note' was string and is int32 now" in refused.error.message
    replaced = _good(lake.apply(writer, _ALICE, [chunk], target, base=base))
    assert replaced.changes == ["column note changed from string to int32"]
    assert lake.rows() == [(2, 7)]


def test_a_frozen_schema_refuses_any_change(lake: Lake) -> None:
    _good(lake.publish([(1, "a")]))
    writer = lake.writer()
    chunk = lake.spool(pa.table({"id": pa.array([2], pa.int64()), "extra": ["e"]}))
    refused = lake.apply(writer, _ALICE, [chunk], _WIDER, base=_newest(writer), schema="freeze")
    assert isinstance(refused.error, SchemaConflict)
    assert lake.rows() == [(1, "a")]


@pytest.mark.parametrize("more", [{"range": Range("id", "1", "2")}, {"deletion": Deletion(hard=True)}])
def test_rows_in_files_are_not_replaced_in_part(lake: Lake, more: dict[str, Any]) -> None:
    _good(lake.publish([(1, "a")]))
    refused = lake.publish([(1, "b")], replace=False, **more)
    assert type(refused.error) is DestinationError
    assert "neither be deleted nor replaced" in refused.error.message
    assert lake.rows() == [(1, "a")]


# Hashes on demand.


def test_digests_are_those_of_the_rows(lake: Lake) -> None:
    rows = [(i, None if i % 5 == 0 else f"n{i}") for i in range(50)]
    table = pa.table({"id": [row[0] for row in rows], "note": [row[1] for row in rows]})
    writer = lake.writer()
    first, second = lake.chunk(rows[:30], "c1"), lake.chunk(rows[30:], "c2")
    _good(writer.apply(_ALICE, [TableWork(_TARGET, [first, second], fresh=True)])[0])
    assert total(by_prefix(writer.digest(_TARGET, Digest(), chunk="c2")).values()) == _hash(table.slice(30))
    assert writer.digest(_TARGET, Digest(), chunk="c9") == writer.digest(_TARGET, Digest()) == []
    _good(writer.apply(_ALICE, [TableWork(_TARGET, [], lake.publication(first, second))])[0])
    parts = by_prefix(writer.digest(_TARGET, Digest(digits=1, key=("id",))))
    assert len(parts) > 5
    assert total(parts.values()) == _hash(table)
    upto = writer.digest(_TARGET, Digest(), cursor="id", until="19")
    assert total(by_prefix(upto).values()) == _hash(table.slice(0, 20))
    part = writer.digest(_TARGET, Digest(), cursor="id", until="19", between=("id", "10", None))
    assert total(by_prefix(part).values()) == _hash(table.slice(10, 10))
    part = writer.digest(_TARGET, Digest(), between=("id", None, "10"))
    assert total(by_prefix(part).values()) == _hash(table.slice(0, 10))
    told = writer.digest(_TARGET, Digest(key=("id",), rows=True, values=True))
    assert len(told) == 50
    writer._store.delete(lake.files())
    with pytest.raises(DestinationError, match="A file of t cannot be read"):
        writer.digest(_TARGET, Digest())


# Places.


def test_reading_the_state_creates_nothing(lake: Lake, tmp_path: Path) -> None:
    writer = Filesystem(lake.options, folder=tmp_path, memory=2**28).writer("elsewhere")
    state = writer.read_state("run")
    assert (state.tables, state.existing, state.chunks, state.plans) == ({}, {}, {}, {})
    assert writer._store.files("_runner", deep=True) == []
    assert writer.diagnose()[0][0] == "ok"
    assert writer._store.files("_runner", deep=True) == []
    assert not (tmp_path / "lake" / "elsewhere").exists()


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]"])
def test_a_manifest_that_is_none_is_told(folder: Lake, text: bytes) -> None:
    writer = folder.writer()
    writer._store.write("t/manifest.json", [text])
    with pytest.raises(DestinationError, match=r"t/manifest.json is not as it was written"):
        writer.read_state(None)


def test_runs_are_on_record(lake: Lake) -> None:
    record = RunRecord("run-1", "job", "backfill", "pg", "host", "0.1", "now")
    writer = lake.writer()
    writer.record_run(record)
    writer.record_run(replace(record, exit_code=0, rows=7))
    assert lake.read("_runner/runs/run-1.json") == {**record.__dict__, "exit_code": 0, "rows": 7}


def test_several_tables_are_loaded_in_one_package(lake: Lake) -> None:
    writer = lake.writer()
    names = [f"t{number}" for number in range(12)]
    assert writer.acquire(_ALICE, names) == []
    works = []
    for number, name in enumerate(names):
        chunk = lake.chunk([(number, name)])
        works.append(TableWork(replace(_TARGET, name=name), [chunk], lake.publication(chunk), fresh=True))
    # One table's failure is its own.
    works[5].publication = replace(works[5].publication, base="another")  # type: ignore[type-var]
    outcomes = writer.apply(_ALICE, works)
    assert [isinstance(one.error, LeaseLost) for one in outcomes] == [number == 5 for number in range(12)]
    assert lake.rows("t11") == [(11, "t11")]


def test_large_files_are_sent_in_parts(s3: Lake) -> None:
    writer = s3.writer()
    writer.prepare()
    writer.acquire(_ALICE, ["t"])
    table = pa.table({"id": pa.array(range(24), pa.int64()), "note": [os.urandom(500_000).hex() for _ in range(24)]})
    chunk = s3.spool(table)
    assert chunk.bytes > 10 * 2**20
    _good(s3.apply(writer, _ALICE, [chunk]))
    assert s3.manifest()["files"][0]["bytes"] == chunk.bytes
    assert len(s3.rows()) == 24


def test_a_put_whose_answer_was_lost_is_recognised(s3: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    store = s3.writer()._store
    assert isinstance(store, Objects)
    put = store._api.put

    def twice(*arguments: Any, **more: Any) -> Any:
        put(*arguments, **more)
        return put(*arguments, **more)

    monkeypatch.setattr(store._api, "put", twice)
    store.replace("doc.json", b"1", None)
    store.replace("doc.json", b"2", store.read("doc.json"))
    monkeypatch.undo()
    found = store.read("doc.json")
    assert found is not None
    assert found.data == b"2"


def test_a_store_that_overwrites_whatever_is_there_is_refused(s3: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = s3.writer()
    assert isinstance(writer._store, Objects)
    api = writer._store._api

    def careless(store: Any, path: str, data: Any, mode: Any = None, **more: Any) -> Any:
        return api.put(store, path, data, **more)

    class Careless:
        def __getattr__(self, name: str) -> Any:
            return careless if name == "put" else getattr(api, name)

    writer._store._api = Careless()
    with pytest.raises(DestinationRefused, match="ignores conditional writes"):
        writer.prepare()
    assert writer.diagnose()[0][0] == "fail"


def _refused(call: Callable[[], object], kind: type[RunnerError]) -> RunnerError:
    with pytest.raises(RunnerError) as caught:
        call()
    assert type(caught.value) is kind, caught.value
    text = repr(caught.value.record())
    assert _SECRET not in text
    assert "an-id" not in text
    return caught.value


def test_errors_of_a_store_have_names(s3: Lake, s3_server: Moto) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        silent = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        _refused(s3.writer(endpoint=silent).prepare, Unreachable)
        contacted = s3.writer()
        contacted.prepare()
        contacted._store._store = s3.writer(endpoint=silent)._store._store  # type: ignore[attr-defined]
        _refused(lambda: contacted.read_state(None), DestinationDown)
        _refused(lambda: contacted.apply(_ALICE, [TableWork(_TARGET)]), DestinationDown)
    missing = s3.writer(url="s3://no-such-bucket/x")
    _refused(missing.prepare, DatabaseMissing)
    _refused(lambda: missing.read_state(None), DatabaseMissing)
    s3_server.check_credentials(after=0)
    try:
        _refused(s3.writer().prepare, CredentialsRejected)
        assert s3.writer().diagnose()[0][0] == "fail"
    finally:
        s3_server.check_credentials(after=None)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Server returned non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code>", DestinationRefused),
        ("PUT http://169.254.169.254/latest/api/token - HTTP error", CredentialsRejected),
        ("Server returned error status code: 507: <Code>XMinioStorageFull</Code>", DiskFull),
        ("Server returned error status code: 503 - try later", Unreachable),
        ("Server returned error status code: 503: <Code>SlowDown</Code>", Unreachable),
        ("Server returned error status code: 400: <Code>InvalidRequest</Code>", DestinationError),
    ],
)
def test_answers_of_a_store_are_told_apart(s3: Lake, text: str, kind: type[RunnerError]) -> None:
    store = s3.writer()._store
    assert isinstance(store, Objects)
    assert type(store._refusal(RuntimeError(text))) is kind


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EROFS, ReadOnly), (errno.EIO, DestinationError)]
)
def test_errors_of_a_disk_have_names(
    folder: Lake, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[RunnerError]
) -> None:
    writer = folder.writer()
    writer.prepare()
    writer.acquire(_ALICE, ["t"])

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr("runner.writers.folder.os.fsync", fail)
        outcome = folder.apply(writer, _ALICE, [folder.chunk([(1, "a")])])
    assert type(outcome.error) is kind
    assert list((folder.folder / "lake").rglob("*.tmp")) == []
    _good(folder.apply(writer, _ALICE, [folder.chunk([(1, "a")])]))


def test_documents_in_a_folder_are_compared_and_swapped(folder: Lake) -> None:
    def count(_: int) -> None:
        store, done = folder.writer()._store, 0
        while done < 25:
            before = store.read("counter")
            with contextlib.suppress(Changed):
                store.replace("counter", str(int(before.data) + 1 if before else 1).encode(), before)
                done += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert folder.read("counter") == 100


def test_a_file_where_the_folder_should_be_is_told(folder: Lake) -> None:
    (folder.folder / "lake").write_text("")
    _refused(folder.writer().prepare, DestinationError)
    assert folder.writer().diagnose()[0][0] == "fail"


# Options.


def _made(tmp_path: Path, **options: Any) -> Filesystem:
    return Filesystem(options, folder=tmp_path, memory=2**28)


def test_a_relative_folder_starts_at_the_projects_root(tmp_path: Path) -> None:
    assert _made(tmp_path, url="data/lake").describe() == f"filesystem {tmp_path}/data/lake"
    assert _made(tmp_path, url="file:///srv/my%20lake").describe() == "filesystem /srv/my lake"


def test_secrets_are_nowhere_to_be_seen(s3: Lake) -> None:
    made = Filesystem(s3.options, folder=s3.folder, memory=1)
    writer = made.writer("raw")
    seen = [made.describe(), repr(made._config), repr(writer._store._store)]  # type: ignore[attr-defined]
    assert not any(_SECRET in text or "an-id" in text for text in seen)
    assert made.describe() == f"filesystem {s3.options['url']} at {s3.options['endpoint']}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "ftp://host/x"}, "ftp://host/x is of no known kind"),
        ({"url": "file://host/x"}, "names another host"),
        ({"url": "lake", "region": "eu"}, "A local folder takes no region"),
        ({"url": "gs://bucket/x", "region": "eu"}, "'region' is not valid for store 'GCS'"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        _made(tmp_path, **options).writer("raw")


def test_object_stores_need_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match="need the package 'obstore'") as caught:
        _made(tmp_path, url="s3://bucket/x").writer("raw")
    assert "[files]" in caught.value.advice


def test_dlts_own_variables_are_understood() -> None:
    prefix = "DESTINATION__FILESYSTEM__"
    assert Filesystem.options_from_dlt({}) == {}
    assert Filesystem.options_from_dlt(
        {
            f"{prefix}BUCKET_URL": "s3://b/x",
            f"{prefix}CREDENTIALS__AWS_ACCESS_KEY_ID": "id",
            f"{prefix}CREDENTIALS__AWS_SECRET_ACCESS_KEY": "key",
            f"{prefix}CREDENTIALS__ENDPOINT_URL": "http://localhost:9000",
            f"{prefix}CREDENTIALS__REGION_NAME": "eu-west-1",
        }
    ) == {
        "url": "s3://b/x",
        "access_key_id": "id",
        "secret_access_key": "key",
        "endpoint": "http://localhost:9000",
        "region": "eu-west-1",
        "allow_http": True,
    }


def test_a_spooled_file_becomes_one_of_the_folder_and_again_after_a_kill(tmp_path: Path) -> None:
    source = tmp_path / "spooled"
    source.write_bytes(b"rows")
    source.chmod(0o600)
    plain = tmp_path / "plain"
    plain.touch()
    folder = Folder(tmp_path / "lake")
    for _ in range(2):
        assert folder.copy("t/1.parquet", source) == 4
    found = tmp_path / "lake" / "t" / "1.parquet"
    assert [entry.name for entry in found.parent.iterdir()] == ["1.parquet"]
    assert found.stat().st_mode == plain.stat().st_mode, "its readers are not those of the spool"
    source.unlink()
    assert found.read_bytes() == b"rows"


def test_where_a_link_cannot_be_made_the_bytes_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refused)  # there is one disk here
    source = tmp_path / "spooled"
    source.write_bytes(b"rows")
    assert Folder(tmp_path / "lake").copy("t/1.parquet", source) == 4
    assert [path.name for path in (tmp_path / "lake" / "t").iterdir()] == ["1.parquet"]
