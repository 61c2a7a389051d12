"""Job and source together: which tables, in which mode, under which name, and why."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from runner.errors import (
    JobFileError,
    NameCollision,
    PermissionMissing,
    SourceError,
    TableMissing,
    UsageError,
)
from runner.job import DestinationSpec, Job, SourceSpec
from runner.jobfile import SettledJob
from runner.load import Range
from runner.plan import bounded, can_order, cursor_text, make_plan, patterns, step_back, target_range, windowed
from runner.source import Column, Table, Window

PROMISES = {"full": "exactly once", "append": "exactly once", "incremental": "exactly once"}
UTC = pa.timestamp("us", "UTC")
NAIVE = pa.timestamp("us")

ID = Column("id", pa.int64(), nullable=False, native="bigint")
AT = Column("updated_at", UTC, nullable=False, native="timestamp with time zone")
LOOSE = Column("modified_at", NAIVE, nullable=True, native="timestamp")
TEXT = Column("note", pa.string(), native="text")


def table(name="shop.orders", *columns: Column, key=("id",), indexed=("id", "updated_at"), **more) -> Table:
    schema, _, plain = name.partition(".")
    return Table(schema, plain, columns or (ID, AT, LOOSE, TEXT), key, indexed=indexed, **more)


def settle(tables=None, *, environment=None, destination=None, **more) -> SettledJob:
    job = Job.model_validate({"name": "shop", "source": "src", "tables": tables or {"*": None}, **more})
    return SettledJob(
        job=job,
        path=Path("shop.yml"),
        source_name="src",
        source=SourceSpec(type="postgres"),
        destination_name="duckdb",
        destination=DestinationSpec.model_validate(destination or {}),
        environment=environment,
    )


def plan(found, tables=None, *, max_name=63, promises=PROMISES, since=None, until=None, only=(), **more):
    found = [found] if isinstance(found, Table) else found
    return make_plan(
        settle(tables, **more), found, max_name=max_name, promises=promises, since=since, until=until, only=only
    )


def one(found, entry=None, **more):
    made = plan(found, {"*": entry}, **more)
    assert made.rejected == ()
    return made.tables[0]


def rejected(found, entry=None, **more):
    made = plan(found, {"*": entry}, **more)
    assert made.tables == ()
    (only,) = made.rejected
    assert only.name == "shop.orders"
    return only.error


class TestModeAuto:
    CURSORS = ("modified_at", "updated_at")

    def test_incremental_by_the_first_cursor_that_is_indexed_and_not_null(self):
        found = one(table(), {"cursor": list(self.CURSORS)})
        assert (found.mode, found.cursor) == ("incremental", "updated_at")
        assert found.why == "auto: updated_at is indexed and not null, key (id)"
        assert (found.target.key, found.key_from) == (("id",), "primary key")

    def test_auto_is_the_default(self):
        assert one(table(), {"cursor": "updated_at"}).mode == "incremental"
        assert one(table(), None).mode == "full"

    @pytest.mark.parametrize(
        ("found", "why"),
        [
            (table(indexed=("id",)), "auto: modified_at may be NULL (say mode: incremental to use it all the same)"),
            (table(key=()), "auto: no primary key"),
            (
                table("shop.orders", ID, LOOSE, indexed=("modified_at",)),
                "auto: modified_at may be NULL (say mode: incremental to use it all the same)",
            ),
            (table("shop.orders", ID, TEXT), "auto: no column modified_at or updated_at"),
        ],
    )
    def test_full_where_it_cannot_and_says_why(self, found, why):
        made = one(found, {"cursor": list(self.CURSORS)})
        assert (made.mode, made.why) == ("full", why)
        assert made.target.key == ()

    def test_fallback_error(self):
        error = rejected(table(key=()), {"cursor": "updated_at", "fallback": "error"})
        assert isinstance(error, JobFileError)
        assert "mode auto found no primary key, and fallback is error" in error.message

    def test_a_text_column_orders_nothing(self):
        text = Column("updated_at", pa.string(), nullable=False, native="text")
        assert one(table("shop.orders", ID, text), {"cursor": "updated_at"}).mode == "full"

    def test_the_key_of_the_job_file_counts(self):
        made = one(table(key=()), {"cursor": "updated_at", "key": ["note", "id"]})
        assert (made.mode, made.target.key, made.key_from) == ("incremental", ("note", "id"), "job file")


class TestModesByName:
    def test_full_keeps_a_cursor_for_its_mark(self):
        made = one(table(), {"mode": "full", "cursor": "modified_at"})
        assert (made.mode, made.cursor, made.why) == ("full", "modified_at", "as the job file says")

    def test_full_does_not_need_anything(self):
        assert one(table(key=()), {"mode": "full"}).cursor is None

    def test_incremental_takes_a_nullable_cursor(self):
        made = one(table(), {"mode": "incremental", "cursor": ["gone", "modified_at"]})
        assert (made.mode, made.cursor) == ("incremental", "modified_at")

    @pytest.mark.parametrize(
        ("found", "entry", "message"),
        [
            (table(), {"mode": "incremental"}, "mode incremental needs a cursor"),
            (table(), {"mode": "incremental", "cursor": ["gone"]}, "mode incremental needs a cursor"),
            (table(key=()), {"mode": "incremental", "cursor": "updated_at"}, "needs a key, and there is no primary"),
            (table(), {"mode": "incremental", "cursor": "update_at"}, "'update_at'. Did you mean 'updated_at'?"),
            (table(), {"mode": "append", "cursor": "zzz"}, "cursor: there is no column 'zzz'."),
            (table(), {"mode": "append", "cursor": "modified_at"}, "append needs a cursor that is not null"),
            (table(), {"mode": "append", "cursor": "updated_at", "lag": "5m"}, "lag would append rows twice"),
            (table(), {"key": ["idd"]}, "key: there is no column 'idd' to merge by. Did you mean 'id'?"),
            (table(), {"columns": {"*": "drop"}}, "every column is dropped"),
            (table(), {"columns": {"nope": "drop"}}, "columns: there is no column 'nope'. Did you mean 'note'?"),
            (table(), {"columns": {"id": "drop"}, "mode": "incremental", "cursor": "updated_at"}, "no column 'id'"),
        ],
    )
    def test_what_cannot_be_planned_is_rejected_and_says_why(self, found, entry, message):
        error = rejected(found, entry)
        assert isinstance(error, JobFileError)
        assert error.message.startswith("shop.orders: ")
        assert message in error.message

    def test_a_cursor_of_the_wrong_type_is_not_called_missing(self):
        error = rejected(table(), {"mode": "incremental", "cursor": "note"})
        assert "no column 'note'" not in error.message

    def test_append_without_a_cursor(self):
        assert one(table(), {"mode": "append"}).mode == "append"

    def test_a_destination_that_cannot_keep_a_mode(self):
        error = rejected(table(), {"mode": "append"}, promises={"full": "yes"})
        assert "this destination cannot keep mode append" in error.message

    def test_a_dropped_cursor_is_still_read_by(self):
        made = one(table(), {"cursor": "updated_at", "columns": {"updated_at": "drop"}})
        assert made.cursor == "updated_at"
        assert "updated_at" not in [column.name for column in made.scan.columns]


class TestSelection:
    def test_the_source_is_asked_for_every_pattern(self):
        assert patterns(settle({"a.*": None, "b.c": {"disabled": True}}).job) == ["a.*", "b.c"]

    def test_largest_first_then_by_name(self):
        made = plan([table("s.b", bytes=1), table("s.c", bytes=9), table("s.a", bytes=1)])
        assert [found.name for found in made.tables] == ["s.c", "s.a", "s.b"]

    def test_excluded_and_disabled(self):
        made = plan(
            [table("s.a"), table("s.a_bak"), table("s.off")],
            {"s.*": None, "s.off": {"disabled": True}},
            exclude=["*_bak"],
        )
        assert [found.name for found in made.tables] == ["s.a"]
        assert made.rejected == ()

    def test_nothing_selected(self):
        with pytest.raises(UsageError, match="No table is selected"):
            plan([table("s.a")], {"other.*": None})
        with pytest.raises(UsageError, match="No table is selected"):
            plan([], {"s.*": None})

    def test_only_narrows(self):
        made = plan([table("s.a"), table("s.b")], {"s.a": None, "s.b": None, "s.gone": None}, only=["s.a"])
        assert [found.name for found in made.tables] == ["s.a"]
        assert made.rejected == ()

    def test_only_may_be_a_plain_name_or_a_pattern(self):
        made = plan([table("s.a"), table("s.b"), table("s.cc")], only=["b", "s.c*"])
        assert {found.name for found in made.tables} == {"s.b", "s.cc"}

    def test_a_table_that_is_not_there(self):
        made = plan([table("shop.orders")], {"shop.ordres": None, "shop.*": None})
        assert [found.name for found in made.tables] == ["shop.orders"]
        (missing,) = made.rejected
        assert missing.name == "shop.ordres"
        assert isinstance(missing.error, TableMissing)
        assert "Did you mean 'shop.orders'?" in missing.error.message

    def test_a_disabled_table_may_be_gone(self):
        assert plan([table("s.a")], {"s.*": None, "s.gone": {"disabled": True}}).rejected == ()

    def test_a_plain_name_is_found_in_any_schema(self):
        assert plan([table("s.a")], {"a": None}).rejected == ()

    def test_one_rejected_table_does_not_stop_the_others(self):
        made = plan(
            [table("s.a"), table("s.b", readable=False), replace(table("s.c"), columns=())],
        )
        assert [found.name for found in made.tables] == ["s.a"]
        errors = {found.name: type(found.error) for found in made.rejected}
        assert errors == {"s.b": PermissionMissing, "s.c": SourceError}


class TestNames:
    @pytest.mark.parametrize(
        ("name", "entry", "destination", "expected"),
        [
            ("shop.Orders", None, {}, "orders"),
            ("Back Office.Staff List", None, {}, "staff_list"),
            ("shop.orders", {"as": "Bestellungen"}, {}, "bestellungen"),
            ("shop.orders", {"as": "a__b"}, {}, "a__b"),
            ("shop.orders", None, {"table": "{schema}__{table}"}, "shop__orders"),
            ("shop.orders", None, {"table": "{source}_{table}"}, "src_orders"),
            ("shop.a__b", None, {}, "a__b"),
        ],
    )
    def test_table_names(self, name, entry, destination, expected):
        pattern = f"{name.partition('.')[0]}.*"
        assert plan(table(name), {pattern: entry}, destination=destination).tables[0].target.name == expected

    def test_several_schemas_get_the_schema_into_the_name(self):
        made = plan([table("a.x"), table("b.x")])
        assert {found.target.name for found in made.tables} == {"a__x", "b__x"}

    def test_a_name_depends_on_the_job_file_and_on_nothing_else(self):
        both, single, any_ = {"a.*": None, "b.x": None}, {"a.*": None}, {"*": None}
        assert plan([table("a.x"), table("b.x")], single).tables[0].target.name == "x"
        assert plan([table("a.x")], both).tables[0].target.name == "a__x"
        assert plan([table("a.x"), table("b.x")], both, only=["a.x"]).tables[0].target.name == "a__x"
        assert plan([table("a.x")], any_).tables[0].target.name == "a__x"

    @pytest.mark.parametrize("name", ["_runner_x", "_dlt_loads", "__"])
    def test_names_that_belong_to_somebody_else(self, name):
        error = rejected(table(), {"as": name})
        assert "cannot be used" in error.message

    def test_long_names_fit_the_destination(self):
        made = plan([table("s." + "x" * 63), table("t." + "x" * 63)], max_name=40)
        names = {found.target.name for found in made.tables}
        assert len(names) == 2
        assert all(len(name) <= 40 for name in names)

    def test_collisions_of_tables(self):
        with pytest.raises(NameCollision, match="would both be my_table") as clash:
            plan([table("s.MyTable"), table("s.my_table")], {"s.*": None})
        assert "s.MyTable and s.my_table" in clash.value.message
        assert clash.value.exit_code == 2

    def test_collisions_of_columns(self):
        error = rejected(table("shop.orders", ID, Column("MyCol", pa.string()), Column("my_col", pa.string())))
        assert "'MyCol' and 'my_col' would both be 'my_col'" in error.message

    def test_a_collision_ends_where_one_is_dropped(self):
        found = table("shop.orders", ID, Column("MyCol", pa.string()), Column("my_col", pa.string()))
        assert one(found, {"columns": {"MyCol": "drop"}}).target.columns[1].source == "my_col"

    def test_columns_of_the_runner_are_reserved(self):
        assert "_runner_chunk" in rejected(table("shop.orders", ID, Column("_runner_chunk", pa.string()))).message

    def test_columns_keep_their_names_at_both_ends(self):
        made = one(table("shop.orders", ID, Column("Old Name", pa.string(), native="text")))
        assert [(column.source, column.name) for column in made.target.columns] == [
            ("id", "id"),
            ("Old Name", "old_name"),
        ]

    def test_the_key_is_named_as_at_the_destination(self):
        found = table("shop.orders", Column("OrderId", pa.int64(), False), AT, key=("OrderId",))
        assert one(found, {"cursor": "updated_at"}).target.key == ("order_id",)


class TestTemplates:
    @pytest.mark.parametrize(
        ("template", "environment", "expected"),
        [
            ("raw_{source}", None, "raw_src"),
            ("{env}_raw", "test", "test_raw"),
            ("Raw Data", None, "raw_data"),
            ("{schema}", None, "shop"),
            ("{source}_{schema}", None, "src_shop"),
        ],
    )
    def test_datasets(self, template, environment, expected):
        assert plan(table(), destination={"dataset": template}, environment=environment).dataset == expected

    @pytest.mark.parametrize(
        ("destination", "message"),
        [
            ({"dataset": "raw_{nope}"}, r"uses \{nope\}"),
            ({"dataset": "raw_{table}"}, r"uses \{table\}"),
            ({"dataset": "raw_{env}"}, "needs an environment"),
            ({"table": "{nope}"}, r"uses \{nope\}"),
        ],
    )
    def test_templates_that_cannot_be_filled(self, destination, message):
        with pytest.raises(UsageError, match=message):
            plan(table(), destination=destination)

    def test_one_job_writes_to_one_dataset(self):
        with pytest.raises(UsageError, match=r"several datasets: a, b"):
            plan([table("a.x"), table("b.x")], destination={"dataset": "{schema}"})

    def test_two_schemas_may_fill_one_dataset(self):
        found = plan([table("a.x"), table("a.y")], {"a.*": None}, destination={"dataset": "{schema}"})
        assert found.dataset == "a"
        assert {one.target.name for one in found.tables} == {"x", "y"}


class TestRanges:
    def test_since_and_until(self):
        found = one(table(), {"cursor": "updated_at"}, since="2024-01-01", until="2024-02-01T00:00:00+02:00")
        start, end = "2024-01-01 00:00:00+00", "2024-01-31 22:00:00+00"
        assert found.scan.window == Window("updated_at", start, end, from_start=True, before_end=True, nulls=False)
        assert found.range == (start, end)
        assert target_range(found) == Range("updated_at", start, end)
        assert found.why == "--since/--until"

    def test_half_open(self):
        found = one(table(), {"cursor": "updated_at"}, since="2024-01-01")
        assert (found.scan.window.start, found.scan.window.end) == ("2024-01-01 00:00:00+00", None)

    def test_no_range(self):
        assert target_range(one(table())) is None

    def test_a_range_needs_a_cursor(self):
        with pytest.raises(UsageError, match=r"--since and --until need a cursor, and shop\.orders has none"):
            one(table(), None, since="2024-01-01")

    def test_the_range_is_named_as_at_the_destination(self):
        found = table("shop.orders", ID, Column("UpdatedAt", UTC, False), indexed=("UpdatedAt",))
        assert target_range(one(found, {"cursor": "UpdatedAt"}, since="2024-01-01")).column == "updated_at"

    def test_a_range_of_a_dropped_cursor_is_refused(self):
        with pytest.raises(UsageError):
            made = one(table(), {"cursor": "updated_at", "columns": {"updated_at": "drop"}}, since="2024-01-01")
            target_range(made)

    @pytest.mark.parametrize(
        ("text", "kind", "expected"),
        [
            ("2024-01-31", UTC, "2024-01-31 00:00:00+00"),
            ("2024-01-31T06:00:00Z", UTC, "2024-01-31 06:00:00+00"),
            ("2024-01-31T06:00:00+02:00", UTC, "2024-01-31 04:00:00+00"),
            ("2024-01-31T06:00:00.5", UTC, "2024-01-31 06:00:00.500000+00"),
            ("2024-01-31 06:00", NAIVE, "2024-01-31 06:00:00"),
            ("2024-01-31T06:00:00+02:00", NAIVE, "2024-01-31 04:00:00"),
            ("2024-01-31", pa.date32(), "2024-01-31"),
            ("42", pa.int64(), "42"),
            ("-7", pa.int32(), "-7"),
        ],
    )
    def test_bounds_as_the_cursor_writes_them(self, text, kind, expected):
        assert cursor_text(text, kind) == expected

    @pytest.mark.parametrize(
        ("text", "kind", "message"),
        [
            ("yesterday", UTC, "'yesterday' is not a time"),
            ("2024-13-01", pa.date32(), "is not a time"),
            ("2024-01-01", pa.int64(), "is not a number"),
            ("1.5", pa.int64(), "is not a number"),
        ],
    )
    def test_wrong_bounds(self, text, kind, message):
        with pytest.raises(UsageError, match=message):
            cursor_text(text, kind)


class TestWindows:
    MARK = "2024-01-31 06:00:00+00"

    def test_a_full_table_has_none(self):
        found = one(table(), {"mode": "full", "cursor": "updated_at"})
        assert windowed(found, self.MARK) is found

    def test_a_range_stays(self):
        found = one(table(), {"cursor": "updated_at"}, since="2024-01-01")
        assert windowed(found, self.MARK) is found

    def test_without_a_cursor_there_is_none(self):
        found = one(table(), {"mode": "append"})
        assert windowed(found, self.MARK) is found

    def test_incremental_starts_at_the_mark_and_takes_rows_without_a_cursor(self):
        window = windowed(one(table(), {"cursor": "updated_at"}), self.MARK).scan.window
        assert window == Window("updated_at", self.MARK, from_start=True, nulls=True)

    def test_incremental_steps_back_by_the_lag(self):
        found = windowed(one(table(), {"cursor": "updated_at", "lag": "90m"}), self.MARK)
        assert found.scan.window.start == "2024-01-31 04:30:00+00:00"

    def test_append_starts_after_the_mark(self):
        window = windowed(one(table(), {"mode": "append", "cursor": "updated_at"}), self.MARK).scan.window
        assert window == Window("updated_at", self.MARK, from_start=False, nulls=False)

    def test_the_first_run_reads_everything(self):
        for mode in ("append", "incremental"):
            window = windowed(one(table(), {"mode": mode, "cursor": "updated_at"}), None).scan.window
            assert (window.start, window.end) == (None, None)

    @pytest.mark.parametrize(
        ("mark", "ceiling", "end"), [("5", "9", "9"), (None, "9", "9"), ("5", None, "5"), ("5", "5", "5")]
    )
    def test_append_reads_no_further_than_the_mark_of_this_run(self, mark, ceiling, end):
        found = table("shop.orders", ID, indexed=("id",))
        made = bounded(windowed(one(found, {"mode": "append", "cursor": "id"}), mark), ceiling)
        assert (made.scan.window.start, made.scan.window.end) == (mark, end)
        assert not made.scan.window.before_end

    def test_append_reads_nothing_where_there_is_no_mark_at_all(self):
        made = bounded(windowed(one(table(), {"mode": "append", "cursor": "updated_at"}), None), None)
        assert made.scan.where == "false"

    @pytest.mark.parametrize(
        ("mark", "lag", "kind", "expected"),
        [
            ("100", None, pa.int64(), "100"),
            ("100", 7, pa.int64(), "93"),
            ("100", timedelta(seconds=7), pa.int64(), "93"),
            ("2024-03-01", timedelta(days=1), pa.date32(), "2024-02-29"),
            ("2024-03-01", timedelta(hours=1), pa.date32(), "2024-02-29"),
            ("2024-03-01", timedelta(hours=25), pa.date32(), "2024-02-28"),
            ("2024-03-01 00:00:00", timedelta(minutes=5), NAIVE, "2024-02-29 23:55:00"),
            ("2024-03-01 00:00:00.123456", 60, NAIVE, "2024-02-29 23:59:00.123456"),
            ("2024-03-01 00:00:00+00", timedelta(minutes=5), UTC, "2024-02-29 23:55:00+00:00"),
            ("2024-03-01 00:00:00.5+00", timedelta(seconds=1), UTC, "2024-02-29 23:59:59.500000+00:00"),
            ("2024-03-01 00:00:00", timedelta(0), NAIVE, "2024-03-01 00:00:00"),
        ],
    )
    def test_step_back(self, mark, lag, kind, expected):
        assert step_back(mark, lag, kind) == expected

    @pytest.mark.parametrize(("mark", "kind"), [("infinity", UTC), ("-infinity", NAIVE), ("infinity", pa.date32())])
    def test_a_mark_that_python_has_no_date_for_stays(self, mark, kind):
        assert step_back(mark, timedelta(minutes=5), kind) == mark


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (UTC, True),
        (NAIVE, True),
        (pa.date32(), True),
        (pa.int16(), True),
        (pa.int64(), True),
        (pa.string(), False),
        (pa.float64(), False),
        (pa.decimal128(10, 0), False),
        (pa.bool_(), False),
        (pa.binary(), False),
        (pa.time64("us"), False),
    ],
)
def test_can_order(kind, expected):
    assert can_order(kind) is expected


BASE = {"cursor": "updated_at"}


class TestDigest:
    @pytest.mark.parametrize(
        "entry",
        [
            {**BASE, "mode": "full"},
            {**BASE, "key": ["note"]},
            {**BASE, "as": "other"},
            {**BASE, "where": "id > 1"},
            {**BASE, "columns": {"note": "mask"}},
            {**BASE, "columns": {"note": "drop"}},
            {**BASE, "special": "null"},
            {"cursor": "modified_at"},
        ],
    )
    def test_what_changes_the_rows_changes_it(self, entry):
        assert one(table(), entry).digest() != one(table(), BASE).digest()

    def test_what_does_not_does_not(self):
        base = one(table(), BASE).digest()
        assert one(table(rows=5, bytes=7), BASE).digest() == base
        assert one(table(), BASE, limits={"tables": 1}, retry={"attempts": 2}).digest() == base
        assert one(table(), {**BASE, "on_busy": "skip"}).digest() == base

    def test_a_range_changes_it(self):
        assert one(table(), BASE, since="2024-01-01").digest() != one(table(), BASE).digest()
