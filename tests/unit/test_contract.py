"""What the inputs of a pipeline leave in the environment of a task."""

import pytest

from runner.contract import asked_range, settle_task
from runner.errors import UsageError
from runner.lockfile import LockFile

_JOB = "name: shop\nsource: {type: postgres}\ndestination: {type: duckdb}\ntables: {shop.*: }\n"


@pytest.fixture
def environ(tmp_path):
    (tmp_path / "shop.yml").write_text(_JOB)
    LockFile({name: {"small": True} for name in ("shop.a", "shop.b", "shop.c")}).write(tmp_path / "shop.lock.yml")
    return {"RUNNER_JOB": "shop.yml", "OBJECT": "small_1", "BATCH_SMALL": "2"}


@pytest.mark.parametrize("nothing", ["", " ", "None", "null"])
def test_an_input_that_nobody_filled_in(nothing):
    assert asked_range({"SINCE": nothing, "UNTIL": nothing, "FULL_REFRESH": nothing}) == (None, None, False)


@pytest.mark.parametrize(("text", "refresh"), [("True", True), ("true", True), ("False", False), ("false", False)])
def test_a_boolean_as_either_evaluator_writes_it(text, refresh):
    assert asked_range({"SINCE": "2024-01-01", "FULL_REFRESH": text}) == ("2024-01-01", None, refresh)


def test_a_batch_is_its_tables(environ, tmp_path):
    settled, tables = settle_task(None, None, None, environ, tmp_path)
    assert tables == ("shop.a", "shop.b")
    assert set(tables) < set(settled.job.tables)
    assert settle_task(None, "shop.c", None, environ, tmp_path)[1] == ("shop.c",)


def test_without_batches_it_is_the_name_of_a_table(environ, tmp_path):
    del environ["BATCH_SMALL"]
    assert settle_task(None, None, None, environ, tmp_path)[1] == ("small_1",)


def test_a_batch_with_a_table_that_the_job_dropped_is_not_loaded_in_part(environ, tmp_path):
    (tmp_path / "shop.yml").write_text(_JOB + "exclude: [shop.b]\n")
    with pytest.raises(UsageError, match=r"'small_1' has the table 'shop\.b'"):
        settle_task(None, None, None, environ, tmp_path)
