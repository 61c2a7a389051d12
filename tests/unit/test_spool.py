"""Chunks on local disk: whole or not there, and every byte accounted for."""

import errno
import stat

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import spool as module
from runner.errors import DiskFull, SpoolFull
from runner.limits import Budget
from runner.spool import Spool, SpooledChunk

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("text", pa.string())])
RESERVED = 100_000


def rows(count: int, start: int = 0) -> pa.RecordBatch:
    ids = list(range(start, start + count))
    return pa.RecordBatch.from_pydict({"id": ids, "text": [None if n % 3 else f"t{n}" for n in ids]}, schema=SCHEMA)


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "run" / "spool", Budget(1_000_000))


async def write(spool: Spool, chunk: str, *batches: pa.RecordBatch, reserve: int = RESERVED) -> SpooledChunk:
    reserved = await spool.disk.reserve(reserve)
    async with spool.writer(chunk, SCHEMA, reserved) as out:
        for batch in batches:
            await out.write(batch)
        return await out.finish()


def files(spool: Spool) -> list[str]:
    return sorted(path.name for path in spool.folder.iterdir())


async def test_rows_come_back_as_they_went(spool):
    chunk = await write(spool, "abc", rows(10), rows(5, 10))
    assert chunk.files == ("abc.0.parquet",)
    assert files(spool) == ["abc.0.parquet"]
    table = pq.read_table(spool.folder / "abc.0.parquet")
    assert table.schema == SCHEMA
    assert table.to_pylist() == pa.Table.from_batches([rows(15)]).to_pylist()
    assert chunk.rows == 15
    assert chunk.bytes == (spool.folder / "abc.0.parquet").stat().st_size


async def test_nobody_else_may_read(spool):
    chunk = await write(spool, "abc", rows(10))
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((spool.folder / chunk.files[0]).stat().st_mode) == 0o600


async def test_nobody_else_may_read_while_it_is_written(spool, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_ROWS", 5)
    async with spool.writer("abc", SCHEMA, await spool.disk.reserve(RESERVED)) as out:
        await out.write(rows(10))
        (temporary,) = spool.folder.iterdir()
        assert temporary.suffix == ".tmp"
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600


async def test_a_chunk_without_rows_has_no_file(spool):
    for batches in ((), (rows(0),)):
        chunk = await write(spool, "empty", *batches)
        assert chunk.rows == 0
        assert spool.holds(chunk)
        await spool.remove(chunk)
    assert files(spool) == []
    assert spool.disk.used == 0


async def test_what_was_reserved_becomes_what_is_there(spool):
    chunk = await write(spool, "abc", rows(10))
    assert spool.disk.used == chunk.bytes
    await spool.remove(chunk)
    assert spool.disk.used == 0
    assert files(spool) == []


async def test_several_row_groups(spool, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_ROWS", 10)
    chunk = await write(spool, "abc", *[rows(5, start) for start in range(0, 35, 5)])
    assert len(chunk.files) == 1
    file = pq.ParquetFile(spool.folder / chunk.files[0])
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10, 10, 10, 5]
    assert file.read().column("id").to_pylist() == list(range(35))


async def test_a_row_group_ends_by_its_bytes_too(spool, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_BYTES", rows(10).nbytes)
    chunk = await write(spool, "abc", rows(10), rows(10, 10))
    assert pq.ParquetFile(spool.folder / chunk.files[0]).num_row_groups == 2


async def test_several_files(spool, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(module, "FILE_BYTES", 1)
    chunk = await write(spool, "abc", rows(10), rows(10, 10), rows(3, 20))
    assert chunk.files == ("abc.0.parquet", "abc.1.parquet", "abc.2.parquet")
    ids = [pq.read_table(spool.folder / name).column("id").to_pylist() for name in chunk.files]
    assert ids == [list(range(10)), list(range(10, 20)), [20, 21, 22]]
    assert chunk.bytes == sum((spool.folder / name).stat().st_size for name in chunk.files)
    assert spool.disk.used == chunk.bytes


@pytest.mark.parametrize("file_bytes", [1, 2**30])
async def test_nothing_is_left_after_an_exception(spool, monkeypatch, file_bytes):
    monkeypatch.setattr(module, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(module, "FILE_BYTES", file_bytes)
    other = await write(spool, "abcd", rows(10))
    reserved = await spool.disk.reserve(RESERVED)
    with pytest.raises(RuntimeError):
        async with spool.writer("abc", SCHEMA, reserved) as out:
            for start in range(0, 30, 10):
                await out.write(rows(10, start))
            assert len(files(spool)) > 1
            raise RuntimeError
    assert files(spool) == list(other.files)
    assert spool.disk.used == other.bytes


async def test_nothing_is_left_after_cancellation(spool, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_ROWS", 10)
    with anyio.CancelScope() as scope:
        async with spool.writer("abc", SCHEMA, await spool.disk.reserve(RESERVED)) as out:
            await out.write(rows(10))
            assert files(spool) != []
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert files(spool) == []
    assert spool.disk.used == 0


async def test_a_chunk_that_was_not_finished_is_not_there(spool):
    async with spool.writer("abc", SCHEMA, await spool.disk.reserve(RESERVED)) as out:
        await out.write(rows(10))
    assert files(spool) == []
    assert spool.disk.used == 0


async def test_the_budget_grows_with_the_chunk(spool):
    chunk = await write(spool, "abc", rows(1000), reserve=1)
    assert spool.disk.used == chunk.bytes > 1
    await spool.remove(chunk)
    assert spool.disk.used == 0


@pytest.mark.parametrize("group", [10, 10_000])
async def test_a_full_spool(tmp_path, monkeypatch, group):
    monkeypatch.setattr(module, "ROW_GROUP_ROWS", group)
    spool = Spool(tmp_path / "spool", Budget(600))
    with pytest.raises(SpoolFull):
        await write(spool, "abc", *[rows(10, start) for start in range(0, 2000, 10)], reserve=10)
    assert files(spool) == []
    assert spool.disk.used == 0
    assert spool.disk.peak <= 600


async def test_the_last_bytes_of_the_budget_are_used(tmp_path, spool):
    size = (await write(spool, "abc", rows(100))).bytes
    tight = Spool(tmp_path / "tight", Budget(size))
    assert (await write(tight, "abc", rows(100), reserve=size - 1)).bytes == size


async def test_a_full_disk(spool, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_fsync", full)
    with pytest.raises(DiskFull, match="No space left on device"):
        await write(spool, "abc", rows(10))
    assert files(spool) == []
    assert spool.disk.used == 0


async def test_a_file_is_durable_before_it_has_its_name(spool, monkeypatch):
    synced, real = [], module._fsync

    def watch(path):
        synced.append(path.name)
        real(path)

    monkeypatch.setattr(module, "_fsync", watch)
    await write(spool, "abc", rows(10))
    assert synced == ["abc.0.tmp", spool.folder.name]


async def test_holds(spool):
    chunk = await write(spool, "abc", rows(100))
    path = spool.folder / chunk.files[0]
    assert spool.holds(chunk)
    path.write_bytes(path.read_bytes()[:-1])
    assert not spool.holds(chunk)
    path.unlink()
    assert not spool.holds(chunk)


async def test_sweep_keeps_what_is_claimed(spool):
    chunk = await write(spool, "abc", rows(10))
    for name in ("dead.0.tmp", "dead.0.parquet"):
        (spool.folder / name).write_bytes(b"x")
    spool.sweep(set(chunk.files))
    assert files(spool) == list(chunk.files)


async def test_remove_twice_is_not_an_error_of_the_file_system(spool):
    chunk = await write(spool, "abc", rows(10))
    (spool.folder / chunk.files[0]).unlink()
    await spool.remove(chunk)
    assert spool.disk.used == 0


async def test_close_deletes_the_folder(spool):
    await write(spool, "abc", rows(10))
    spool.close()
    assert not spool.folder.exists()
    spool.close()


async def test_the_same_chunk_again_replaces_the_first(spool):
    first = await write(spool, "abc", rows(10))
    await spool.remove(first)
    second = await write(spool, "abc", rows(20))
    assert pq.read_table(spool.folder / second.files[0]).num_rows == 20
    assert spool.disk.used == second.bytes
