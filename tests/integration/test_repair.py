"""``runner verify`` and ``--repair``: right verdicts, and nothing lost that the destination alone has."""

import json
from pathlib import Path

import duckdb
import pytest

from tests.conftest import Cli, Database, Project

_FILL = """
create table orders (id int primary key, note text, updated_at timestamptz);
insert into orders select i, 'n' || i, timestamptz '2024-01-01 00:00:00+00' + make_interval(secs => i)
from generate_series(1, {rows}) i;
create index on orders (updated_at);
analyze orders;
"""


class Case:
    def __init__(self, source: Database, project: Project, cli: Cli) -> None:
        self.source, self.project, self.cli = source, project, cli

    def begin(self, entry: str, rows: int = 500, more: str = "") -> None:
        self.source.execute(_FILL.format(rows=rows), *([more] if more else []))
        self.project.environ["SOURCE_DSN"] = self.source.dsn
        self.project.environ["RUNNER_HASH_KEY"] = "secret"
        self.project.job(
            'name: j\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
            f"tables:\n  public.*: {entry}\n"
        )
        assert self.cli("backfill", "job.yml", "--verify", "hash").code == 0

    def damage(self, *statements: str) -> None:
        with duckdb.connect(str(self.project.warehouse)) as connection:
            for statement in statements:
                connection.execute(statement)

    def count(self, where: str = "true") -> int:
        return int(self.project.query(f"select count(*) from raw.orders where {where}")[0][0])

    def repair(self, code: int = 0) -> str:
        answer = self.cli("verify", "job.yml", "--repair", "--yes")
        assert answer.code == code, answer.out + answer.err
        return answer.out

    def is_equal(self) -> bool:
        return "1 of 1 tables are equal" in self.cli("verify", "job.yml").out


@pytest.fixture
def case(database: Database, project: Project, cli: Cli) -> Case:
    return Case(database, project, cli)


def test_a_hashed_key_is_read_again_as_a_whole(case: Case) -> None:
    case.begin("{mode: full, key: [id], columns: {id: hash}}", rows=6000)
    case.damage("update raw.orders set note = 'x' where note = 'n7'")
    assert "the whole table" in case.repair()
    assert case.count() == 6000
    assert case.is_equal()


@pytest.mark.parametrize("how", ["hard", "soft"])
def test_a_slice_says_nothing_about_other_keys(case: Case, how: str) -> None:
    entry = f"{{mode: incremental, cursor: updated_at, deletes: compare, max_delete: 100%, on_delete: {how}}}"
    case.begin(entry, rows=6000)
    case.damage("update raw.orders set note = 'x' where id = 7")
    assert "of 256 parts" in case.repair()
    assert case.count() == 6000
    assert case.is_equal()


def test_a_full_table_with_a_cursor_keeps_rows_without_a_value_of_it(case: Case) -> None:
    case.begin("{mode: full, cursor: updated_at}", more="update orders set updated_at = null where id % 2 = 0")
    case.damage("update raw.orders set note = 'x' where id = 7")
    case.repair()
    assert case.count() == 500
    assert case.is_equal()


def test_rows_marked_as_deleted_stay_through_a_repair_and_a_changed_key(case: Case) -> None:
    case.begin("{mode: incremental, cursor: updated_at, deletes: compare, max_delete: 100%}")
    case.source.execute("delete from orders where id <= 20")
    assert case.cli("backfill", "job.yml", "--verify", "hash").code == 0
    assert case.count("_deleted_at is not null") == 20
    case.damage("update raw.orders set note = 'x' where id = 77")
    case.repair()
    assert (case.count(), case.count("_deleted_at is not null")) == (500, 20)
    assert case.is_equal()
    job = case.project.folder / "job.yml"
    job.write_text(job.read_text().replace("cursor:", "key: [id, note], cursor:"))
    assert case.cli("backfill", "job.yml", "--verify", "hash").code == 0
    assert (case.count(), case.count("_deleted_at is not null")) == (500, 20)


@pytest.mark.parametrize("entry", ["{mode: append, cursor: updated_at}", "{mode: append}"])
def test_an_append_keeps_what_the_source_has_purged(case: Case, entry: str) -> None:
    not_null = "alter table orders alter updated_at set not null"
    case.begin(entry, more=not_null)
    case.source.execute("delete from orders where id <= 100")
    case.repair()  # nothing is damaged, so nothing is repaired
    assert case.count() == 500
    case.damage("update raw.orders set note = 'x' where id = 300")
    assert "left alone" in case.repair(code=1)
    assert case.count() == 500


def test_an_incremental_table_keeps_purged_rows_and_is_repaired(case: Case) -> None:
    case.begin("{mode: incremental, cursor: updated_at}")
    case.source.execute("delete from orders where id <= 100")
    case.damage("update raw.orders set note = 'x' where id = 300", "delete from raw.orders where id = 301")
    case.repair()
    assert case.count() == 500
    assert case.count("note = 'x'") == 0


def test_a_missing_table_beside_a_repaired_one_is_not_a_success(case: Case) -> None:
    case.begin("{mode: full}", more="create table other as select 1 as n")
    case.damage("update raw.orders set note = 'x' where id = 3", "drop table raw.other")
    assert "missing" in case.repair(code=1)
    assert case.count("note = 'x'") == 0


def test_what_cannot_be_planned_or_found_is_told(case: Case) -> None:
    case.begin("{mode: full}")
    job = case.project.folder / "job.yml"
    job.write_text(job.read_text() + "  public.gone: {mode: full}\n")
    answer = case.cli("verify", "job.yml")
    assert answer.code == 1
    assert "public.gone" in answer.out
    assert case.cli("verify", "job.yml", "nonsense").code == 2


def test_a_new_column_is_a_difference_of_its_table_and_repair_fills_it(case: Case) -> None:
    case.begin("{mode: incremental, cursor: updated_at}")
    case.source.execute("alter table orders add column extra int default 3")
    answer = case.cli("verify", "job.yml", "--tables", "public.orders")
    assert (answer.code, "extra" in answer.out) == (1, True), answer.out + answer.err
    case.cli("verify", "job.yml", "--repair", "--yes")
    assert case.count("extra = 3") == 500


def test_rows_that_are_deleted_by_a_column_are_not_missing(case: Case) -> None:
    case.begin(
        "{mode: full, deletes: {column: updated_at}, on_delete: hard}",
        more="update orders set updated_at = null where id > 9",
    )
    assert case.count() == 491
    assert case.is_equal()


def test_a_cursor_that_arrives_as_text_limits_nothing(case: Case) -> None:
    case.begin("{mode: incremental, cursor: updated_at, columns: {updated_at: text}}")
    assert case.is_equal()


def test_a_version_without_a_number_hides_no_other(case: Case) -> None:
    case.begin("{mode: snapshot}", rows=10)
    case.damage("insert into raw.orders (id, note) values (99, 'by hand')")
    case.source.execute("insert into orders values (11, 'new', null)")
    assert case.cli("backfill", "job.yml", "--verify", "hash").code == 0
    assert case.count("_dlt_valid_to is null") == 11


def test_a_range_with_infinity_does_not_grow(case: Case) -> None:
    infinite = "insert into orders values (0, 'ever', 'infinity')"
    case.begin(
        "{mode: full, cursor: updated_at, special: 'null'}",
        rows=10,
        more=f"alter table orders drop constraint orders_pkey; {infinite}",
    )
    for _ in range(2):
        assert case.cli("backfill", "job.yml", "--since", "2000-01-01").code == 0
    assert case.count() == 11


def test_a_proof_is_whole_after_a_crash_and_holds_for_its_job_alone(case: Case) -> None:
    case.source.execute("create table a as select 1 as n", "create table b as select 2 as n")
    case.project.environ["RUNNER_CRASH_AT"] = "table-recorded:2"
    case.project.environ["SOURCE_DSN"] = case.source.dsn
    case.project.job(
        'name: j\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
        "tables:\n  public.*: {mode: full}\n"
    )
    process = case.project.start("backfill", "job.yml", "--verify", "hash")
    process.communicate(timeout=60)
    assert process.returncode == -9
    del case.project.environ["RUNNER_CRASH_AT"]
    assert case.cli("backfill", "job.yml", "--verify", "hash").code == 0
    file = next(case.project.folder.glob(".runner/runs/*/proof.json"))
    proof = json.loads(file.read_text())
    assert [one["table"] for one in proof["tables"]] == ["public.a", "public.b"]
    assert case.cli("verify", "job.yml", "--proof", file).code == 0
    changed = _write(file.with_name("changed.json"), {**proof, "verified": "source"})
    assert case.cli("verify", "job.yml", "--proof", changed).code == 2
    job = case.project.folder / "job.yml"
    other = _text(case.project.folder / "other.yml", job.read_text().replace("name: j", "name: k"))
    answer = case.cli("verify", other, "--proof", file)
    assert (answer.code, "of the job 'j'" in answer.err) == (2, True)


def _write(path: Path, value: object) -> Path:
    return _text(path, json.dumps(value))


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
