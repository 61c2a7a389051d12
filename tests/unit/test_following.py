"""Chunks that go on where others ended: none comes twice, and who is read again goes on where it did."""

from types import SimpleNamespace

import pyarrow as pa
import pytest

from runner.errors import SourceError, TableChanged
from runner.mover import _goes_on
from runner.record import ChunkState
from runner.source import Column, Scan, Table, following, make_chunk
from runner.spool import SpooledChunk

_SCAN = Scan(Table("api", "rows", (Column("id", pa.int64()),)), ())
_FIRST = make_chunk(_SCAN, 0, {}, storage=None, rows=0, size=0)


def _ended(rest):
    return SpooledChunk((), 0, 0, rest=rest)


def _item(*states):
    return SimpleNamespace(chunks=list(states), plan=SimpleNamespace(scan=_SCAN), name="api.rows")


def test_pages_that_lead_back_end_in_words():
    second = following(_SCAN, _FIRST, 1, {"page": 2}, {_FIRST.id})
    with pytest.raises(SourceError, match="lead back"):
        following(_SCAN, second, 2, {"page": 2}, {_FIRST.id, second.id})
    item = _item(ChunkState(_FIRST), ChunkState(second))
    with pytest.raises(SourceError, match="lead back"):
        _goes_on(item, item.chunks[1], _ended({"page": 2}))


def test_a_chunk_that_is_read_again_goes_on_where_it_did():
    second = following(_SCAN, _FIRST, 1, {"page": 2})
    item = _item(ChunkState(_FIRST, next=second.id), ChunkState(second))
    for _ in range(3):
        found = _goes_on(item, item.chunks[0], _ended({"page": 2}))
        assert found is not None
        assert found.id == second.id
    for rest in ({"page": 3}, None):
        with pytest.raises(TableChanged):
            _goes_on(item, item.chunks[0], _ended(rest))
