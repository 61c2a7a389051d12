"""The pipeline of a job: every table once, in every style; what cannot be named; files that are still what they were."""

from __future__ import annotations

import json
import re
import shlex

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.production.committed import check_pipelines, render, write_pipeline
from orchestra.production.generator import make_pipeline, notes
from orchestra.production.quality import DIALECTS, CheckedTable, Checks
from orchestra.production.recipe import read_recipe
from runner.batches import make_batches
from runner.errors import JobFileError, NotYet, UsageError
from runner.lockfile import LockFile

_JOB = """
name: shop
source: {type: postgres, dsn: "${SHOP_DSN}"}
destination: {type: TYPE, dataset: raw}
tables: {"*.*": }
production:
  schedule: 30 5 * * ? *
  max_parallel: 3
  retry_delay: 10m
  timeout: 2h
  connections: {python: "${{ ENV.PY }}"}
"""
_SMALL = {
    "mode": "incremental",
    "cursor": "Changed At",
    "key": ["id"],
    "columns": {},
    "small": True,
    "time": "changed_at",
}


def entry(name, **more):
    return {"destination": name.replace(".", "__").lower(), **_SMALL, **more}


def make_job(folder, names, *, more="", kind="snowflake", stem="shop"):
    (folder / "pyproject.toml").touch()
    jobs = folder / "orchestra" / "jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    path = jobs / f"{stem}.yml"
    path.write_text(_JOB.replace("TYPE", kind) + more)
    entries = {name: one if isinstance(one, dict) else entry(name) for name, one in dict(names).items()}
    LockFile(entries).write(LockFile.path(path))
    return path


@pytest.fixture
def job(tmp_path):
    return make_job(tmp_path, {f"shop.t{number}": None for number in range(8)})


def moved(document, lock, batch):
    """Return the tables that the tasks of a pipeline move in a normal run, as a worker resolves them."""
    batches = make_batches(lock, batch) if batch else {}
    names = []
    for group in document["pipeline"].values():
        for task in group["tasks"].values():
            if task["integration"] != "PYTHON" or "OBJECT" not in task["parameters"]["environment_variables"]:
                continue
            variables = json.loads(task["parameters"]["environment_variables"])
            assert variables.get("BATCH_SMALL", "") == (str(batch) if batch else "")
            several = document["inputs"]["tables"]["default"] if "matrix" in group else [variables["OBJECT"]]
            for name in several:
                names += batches.get(name, (name,))
    return names


_NAMES = st.lists(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_ ]{0,8}\.[A-Za-z0-9_ #%:&ü-]{1,12}", fullmatch=True),
    min_size=1,
    max_size=12,
    unique_by=str.lower,
)


@settings(max_examples=20, deadline=None)
@given(
    names=_NAMES,
    sizes=st.lists(st.booleans(), min_size=12, max_size=12),
    batch=st.sampled_from([None, 2, 3, 50]),
    style=st.sampled_from(["matrix", "tasks"]),
)
def test_every_table_of_the_lock_exactly_once(tmp_path_factory, names, sizes, batch, style):
    folder = tmp_path_factory.mktemp("g")
    entries = {
        name: entry(f"t{number}", small=small) for number, (name, small) in enumerate(zip(names, sizes, strict=False))
    }
    path = make_job(folder, entries)
    recipe = read_recipe(path, style=style, batch_small=batch)
    document = yaml.safe_load(render(recipe))
    assert sorted(moved(document, recipe.lock, batch)) == sorted(names)
    groups = document["pipeline"]
    ids = [*groups, *(task for group in groups.values() for task in group["tasks"])]
    assert len(ids) == len(set(ids))
    for group in groups.values():
        if "matrix" not in group and group["name"] != "Test":
            assert len(group["tasks"]) <= 3
            assert all(f"'{name}'" in task["condition"] for task in group["tasks"].values() for name in [task["name"]])


def test_a_task_is_what_the_job_says(job):
    document = make_pipeline(read_recipe(job))
    group = document["pipeline"]["load"]
    task = group["tasks"]["table"]
    assert group["matrix"] == {
        "inputs": {"table": "${{ inputs.tables }}"},
        "max_parallel": 3,
        "continue_on_error": True,
    }
    assert task["configuration"] == {"retries": 2, "retry_delay": 10, "timeout": 7200}
    assert task["connection"] == "${{ ENV.PY }}"
    assert task["parameters"]["build_command"] == "pip install '.[snowflake]'"
    assert "set_outputs" not in task["parameters"]
    assert json.loads(task["parameters"]["environment_variables"]) == {
        "RUNNER_JOB": "orchestra/jobs/shop.yml",
        "OBJECT": "${{ matrix.table }}",
        "FULL_REFRESH": "${{ inputs.full_refresh }}",
        "SINCE": "${{ inputs.since }}",
        "UNTIL": "${{ inputs.until }}",
        "TIMEOUT": "114m",
        "PARAMS": '{"limits": {"connections": 2}}',
    }
    assert document["schedule"] == [{"name": "Daily at 05:30 UTC", "cron": "30 5 * * ? *", "timezone": "UTC"}]


def test_tasks_together_keep_to_the_limits_of_the_source(tmp_path):
    limits = "limits: {connections: 2, rate: 9/s}\n"
    recipe = read_recipe(make_job(tmp_path, {"a.b": None}, more=limits))
    assert (recipe.at_once, recipe.share) == (2, {"connections": 1, "rate": "388800/d"})
    assert make_pipeline(recipe)["pipeline"]["load"]["matrix"]["max_parallel"] == 2


@pytest.mark.parametrize(
    ("manager", "build", "command"),
    [
        ("UV", "uv sync --extra snowflake", "uv run runner task"),
        ("POETRY", "poetry install -E snowflake", "poetry run runner task"),
    ],
)
def test_other_package_managers(tmp_path, manager, build, command):
    path = make_job(tmp_path, {"a.b": None}, more=f"  package_manager: {manager}\n  project_dir: orchestra\n")
    parameters = make_pipeline(read_recipe(path))["pipeline"]["load"]["tasks"]["table"]["parameters"]
    assert (parameters["build_command"], parameters["command"]) == (build, command)
    assert json.loads(parameters["environment_variables"])["RUNNER_JOB"] == "jobs/shop.yml"


def test_a_project_in_a_folder_of_its_repository(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "data" / "loads").mkdir(parents=True)
    path = make_job(tmp_path / "data" / "loads", {"a.b": None}, more="  project_dir: data/loads\n")
    parameters = make_pipeline(read_recipe(path))["pipeline"]["load"]["tasks"]["table"]["parameters"]
    assert parameters["project_dir"] == "data/loads"
    assert json.loads(parameters["environment_variables"])["RUNNER_JOB"] == "orchestra/jobs/shop.yml"
    path.write_text(path.read_text().replace("data/loads", "data/other"))
    with pytest.raises(UsageError, match=r"is not in production\.project_dir, 'data/other'"):
        make_pipeline(read_recipe(path))


def test_one_table_that_fails_skips_no_wave_and_waves_that_were_skipped_skip_no_test(job):
    groups = make_pipeline(read_recipe(job, style="tasks"))["pipeline"]
    assert list(groups) == ["wave_1", "wave_2", "wave_3", "quality"]
    assert "condition" not in groups["wave_1"]
    assert groups["wave_2"]["condition"] == "${{ task_groups['wave_1'].all().status == 'COMPLETED' }}"
    assert groups["quality"]["depends_on"] == ["wave_1", "wave_2", "wave_3"]
    assert "task_groups['wave_2'].all().status in ['SUCCEEDED', 'WARNING', 'SKIPPED']" in groups["quality"]["condition"]
    assert groups["wave_1"]["tasks"]["load_shop__t0"]["condition"] == "${{ 'shop.t0' in inputs.tables }}"


def test_thresholds_never_say_the_same_and_every_test_has_an_error(tmp_path):
    path = make_job(tmp_path, {"a.b": None}, more='  quality: {freshness: {"*": 1d}}\n')
    tests = make_pipeline(read_recipe(path))["pipeline"]["quality"]["tasks"]
    assert list(tests) == ["unique_keys", "keys_not_null", "row_counts", "freshness"]
    for test in tests.values():
        error, warn = (test["parameters"].get(f"{kind}_threshold_expression") for kind in ("error", "warn"))
        assert re.fullmatch(r"> \d+", error)
        assert error != warn
        assert "$" not in test["parameters"]["statement"]
    assert tests["freshness"]["parameters"]["error_threshold_expression"] == "> 2"


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("postgres", "", '"raw"."a__b"'),
        ("snowflake", "", '"RAW"."A__B"'),
        ("bigquery", "", "`raw`.`a__b`"),
        ("databricks", "  quality: {parameters: {warehouse_id: '${{ ENV.WAREHOUSE }}'}}\n", "`raw`.`a__b`"),
    ],
)
def test_each_warehouse_in_its_own_words(tmp_path, kind, more, words):
    path = make_job(tmp_path, {"a.b": None}, kind=kind, more=more)
    tests = make_pipeline(read_recipe(path))["pipeline"]["quality"]["tasks"]
    statement = "query" if kind == "bigquery" else "statement"
    assert all(words in test["parameters"][statement] for test in tests.values())
    assert (tests["row_counts"]["parameters"].get("warehouse_id") is not None) == (kind == "databricks")


def test_what_the_test_job_needs_is_asked_for(tmp_path):
    with pytest.raises(UsageError, match="need the parameter warehouse_id"):
        make_pipeline(read_recipe(make_job(tmp_path, {"a.b": None}, kind="databricks")))


def test_a_destination_without_a_test_job_is_verified_or_left_alone(tmp_path):
    verified = make_pipeline(read_recipe(make_job(tmp_path, {"a.b": None}, kind="duckdb")))["pipeline"]
    assert verified["quality"]["tasks"]["verify"]["parameters"]["command"] == "runner verify orchestra/jobs/shop.yml"
    path = make_job(tmp_path, {"a.b": None}, kind="filesystem")
    assert list(make_pipeline(read_recipe(path))["pipeline"]) == ["load"]


def test_rows_are_not_counted_where_there_is_no_record_or_deleted_ones_are_left_out(tmp_path):
    path = make_job(tmp_path, {"a.b": None}, more="state: s3://bucket/state\n")
    assert "row_counts" not in make_pipeline(read_recipe(path))["pipeline"]["quality"]["tasks"]
    path = make_job(tmp_path, {"a.b": None}, more="defaults: {deletes: {column: gone}}\n")
    assert "row_counts" not in make_pipeline(read_recipe(path))["pipeline"]["quality"]["tasks"]


def test_freshness_of_nothing_is_a_mistake(tmp_path):
    path = make_job(tmp_path, {"shop.orders": None}, more="  quality: {freshness: {shop.ordres: 1d}}\n")
    with pytest.raises(UsageError, match=r"'shop\.ordres'. Did you mean 'shop\.orders'"):
        make_pipeline(read_recipe(path))


def test_dbt_comes_last(tmp_path):
    path = make_job(tmp_path, {"a.b": None}, more="transform: {type: dbt, project: dbt/shop}\n")
    group = make_pipeline(read_recipe(path))["pipeline"]["transform"]
    assert group["depends_on"] == ["quality"]
    parameters = group["tasks"]["dbt_build"]["parameters"]
    assert parameters["commands"] == "dbt build"
    assert (parameters["project_dir"], parameters["shallow_clone_dirs"]) == ("dbt/shop", "dbt")
    assert parameters["use_state_orchestration"]
    path = make_job(tmp_path, {"a.b": None}, more="transform: {type: dbt, project: p, build: as_loaded}\n")
    with pytest.raises(NotYet, match="as_loaded"):
        make_pipeline(read_recipe(path))


@pytest.mark.parametrize("name", ['s."q"', "s.back\\slash", "s.a\nb", "s.${{ x }}", "s.a*", "s.[x]", "s.what?"])
def test_a_name_that_would_break_out_of_its_text_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be named in a pipeline"):
        read_recipe(make_job(tmp_path, {name: None}))


def test_an_apostrophe_is_only_in_the_way_of_a_condition(tmp_path):
    path = make_job(tmp_path, {"s.it's": None})
    assert read_recipe(path).elements == ("s.it's",)
    with pytest.raises(UsageError, match="cannot be named"):
        read_recipe(path, style="tasks")


def test_it_needs_a_lock_and_production(tmp_path):
    path = make_job(tmp_path, {"a.b": None})
    LockFile.path(path).unlink()
    with pytest.raises(UsageError) as refused:
        read_recipe(path)
    assert "runner plan" in refused.value.advice
    assert "--lock" in refused.value.advice
    path.write_text(path.read_text().partition("production:")[0])
    with pytest.raises(UsageError, match="does not say how it runs in production"):
        read_recipe(path)


def test_a_wrong_key_is_named_with_its_line(tmp_path):
    with pytest.raises(JobFileError, match=r"shop\.yml:12: production\.max_paralel: .*'max_parallel'"):
        read_recipe(make_job(tmp_path, {"a.b": None}, more="  max_paralel: 3\n"))


def test_the_environment_of_production_is_the_one_that_is_loaded(tmp_path):
    more = "  environment: live\nenvironments: {live: {protected: true, destination: {dataset: live}}}\n"
    document = make_pipeline(read_recipe(make_job(tmp_path, {"a.b": None}, more=more)))
    variables = json.loads(document["pipeline"]["load"]["tasks"]["table"]["parameters"]["environment_variables"])
    assert variables["ENVIRONMENT"] == "live"
    assert '"LIVE"."A__B"' in document["pipeline"]["quality"]["tasks"]["row_counts"]["parameters"]["statement"]


class TestFiles:
    def test_unchanged_it_is_the_same_byte_for_byte(self, job):
        recipe = read_recipe(job)
        assert render(recipe) == render(read_recipe(job))
        assert write_pipeline(recipe, recipe.pipeline) is True
        assert write_pipeline(recipe, recipe.pipeline) is False
        assert [one.state for one in check_pipelines(recipe.root, [])] == ["same"]

    def test_comments_change_nothing_and_keys_do(self, job):
        recipe = read_recipe(job)
        write_pipeline(recipe, recipe.pipeline)
        job.write_text("# a comment\n" + job.read_text())
        assert [one.state for one in check_pipelines(recipe.root, [])] == ["same"]
        job.write_text(job.read_text().replace("max_parallel: 3", "max_parallel: 4"))
        found = check_pipelines(recipe.root, [job])
        assert [one.state for one in found] == ["differs"]
        assert "-      max_parallel: 3\n+      max_parallel: 4" in found[0].diff

    def test_the_options_it_was_written_with_are_kept(self, job):
        recipe = read_recipe(job, style="tasks", batch_small=3)
        write_pipeline(recipe, recipe.pipeline)
        assert "jobs/shop.yml --style tasks --batch-small 3`" in recipe.pipeline.read_text()
        assert [one.state for one in check_pipelines(recipe.root, [])] == ["same"]

    def test_an_edit_by_hand_is_seen(self, job):
        recipe = read_recipe(job)
        write_pipeline(recipe, recipe.pipeline)
        recipe.pipeline.write_text(recipe.pipeline.read_text().replace("retries: 2", "retries: 9"))
        assert "retries: 9" in check_pipelines(recipe.root, [])[0].diff

    def test_a_job_without_a_pipeline_and_a_pipeline_without_a_job(self, job):
        recipe = read_recipe(job)
        assert [one.state for one in check_pipelines(recipe.root, [])] == ["missing"]
        write_pipeline(recipe, recipe.pipeline)
        job.unlink()
        assert [(one.state, one.job) for one in check_pipelines(recipe.root, [])] == [
            ("orphan", "orchestra/jobs/shop.yml")
        ]

    def test_what_was_written_by_hand_is_neither_compared_nor_overwritten(self, job):
        recipe = read_recipe(job)
        recipe.pipeline.parent.mkdir()
        recipe.pipeline.write_text("version: v1\n")
        with pytest.raises(UsageError, match="was not generated"):
            write_pipeline(recipe, recipe.pipeline)
        assert [one.state for one in check_pipelines(recipe.root, [])] == ["foreign"]

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: text.replace(b"\n", b"\r\n"),
            lambda text: text.rstrip(b"\n"),
        ],
    )
    def test_how_lines_end_is_no_change(self, job, change):
        recipe = read_recipe(job)
        write_pipeline(recipe, recipe.pipeline)
        recipe.pipeline.write_bytes(change(recipe.pipeline.read_bytes()))
        assert [one.state for one in check_pipelines(recipe.root, [])] == ["same"]

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: b"# mine\n" + text,
            lambda text: text.replace(b"generate orchestra", b"generate it's orchestra", 1),
            lambda text: "name: B\u00fccher".encode("latin-1"),
            lambda text: b"\xef\xbb\xbf" + text,
        ],
    )
    def test_a_first_line_that_was_changed_is_told(self, job, change):
        recipe = read_recipe(job)
        write_pipeline(recipe, recipe.pipeline)
        recipe.pipeline.write_bytes(change(recipe.pipeline.read_bytes()))
        assert [one.state for one in check_pipelines(recipe.root, [])] == ["foreign"]
        with pytest.raises(UsageError, match="was not generated"):
            write_pipeline(recipe, recipe.pipeline)

    def test_a_renamed_job_takes_its_pipeline_along(self, job):
        write_pipeline(read_recipe(job), read_recipe(job).pipeline)
        moved = job.with_name("store.yaml")
        job.rename(moved)
        LockFile.path(job).rename(LockFile.path(moved))
        root = read_recipe(moved).root
        assert {one.job: one.state for one in check_pipelines(root, [])} == {
            "orchestra/jobs/shop.yml": "orphan",
            "orchestra/jobs/store.yaml": "missing",
        }

    def test_two_jobs_take_no_pipeline_from_each_other(self, job, tmp_path):
        first = read_recipe(job)
        write_pipeline(first, first.pipeline)
        other = job.parent / "eu" / "shop.yml"
        other.parent.mkdir()
        for one in (job, LockFile.path(job)):
            (other.parent / one.name).write_text(one.read_text())
        with pytest.raises(UsageError, match=r"is generated from orchestra/jobs/shop\.yml"):
            write_pipeline(read_recipe(other), read_recipe(other).pipeline)
        assert [one.state for one in check_pipelines(first.root, [])] == ["same"]
        # Elsewhere it may be, and then the name is still that of the other one.
        write_pipeline(read_recipe(other), first.pipeline.with_name("shop_eu.yml"))
        assert [one.state for one in check_pipelines(first.root, [])] == ["twice", "twice"]
        other.write_text(other.read_text().replace("name: shop", "name: shop_eu"))
        write_pipeline(read_recipe(other), first.pipeline.with_name("shop_eu.yml"))
        assert [one.state for one in check_pipelines(first.root, [])] == ["same", "same"]

    def test_a_folder_is_no_file(self, job, tmp_path):
        with pytest.raises(UsageError, match="is a folder"):
            write_pipeline(read_recipe(job), tmp_path)


def test_what_orchestra_refuses_is_not_written(tmp_path):
    path = make_job(tmp_path, {"a.b": None}, more="  timezone: Europe/Lodon\n")
    path.write_text(path.read_text().replace("30 5", "99 5"))
    with pytest.raises(UsageError) as refused:
        render(read_recipe(path))
    assert "there is no time zone 'Europe/Lodon'" in refused.value.message
    assert "minute: 99 is not between 0 and 59" in refused.value.message
    with pytest.raises(JobFileError, match="priority"):
        read_recipe(
            make_job(
                tmp_path,
                {"a.b": None},
                more="  alerts: [{name: A, destinations: [{integration: DATADOG, connection_id: d_12345, "
                "parameters: {priority: 9}}]}]\n",
            )
        )


def test_a_table_with_a_long_name_is_named_in_part(tmp_path):
    name = f"shop.{'x' * 120}"
    document = yaml.safe_load(render(read_recipe(make_job(tmp_path, {name: None}), style="tasks")))
    (task,) = document["pipeline"]["wave_1"]["tasks"].values()
    assert (task["name"], name in task["condition"]) == (name[:100], True)


def test_a_batch_takes_no_task_of_a_table(tmp_path):
    tables = {"a.b": entry("a.b", destination="small_1", small=False), "a.c": None, "a.d": None}
    recipe = read_recipe(make_job(tmp_path, tables), style="tasks", batch_small=2)
    assert sorted(moved(make_pipeline(recipe), recipe.lock, 2)) == ["a.b", "a.c", "a.d"]


def test_the_job_file_of_a_command_is_quoted(tmp_path):
    path = make_job(tmp_path, {"a.b": None}, kind="duckdb", stem="o'brien $(x)")
    recipe = read_recipe(path)
    command = make_pipeline(recipe)["pipeline"]["quality"]["tasks"]["verify"]["parameters"]["command"]
    assert shlex.split(command) == ["runner", "verify", "orchestra/jobs/o'brien $(x).yml"]
    write_pipeline(recipe, recipe.pipeline)
    assert [one.state for one in check_pipelines(recipe.root, [])] == ["same"]


@pytest.mark.parametrize("text", ["tables: [a.b]", "tables: {a.b: }", "tables: {a.b: 1}"])
def test_a_lock_that_is_none(tmp_path, text):
    path = make_job(tmp_path, {"a.b": None})
    LockFile.path(path).write_text(text)
    with pytest.raises(JobFileError, match=r"shop\.lock\.yml:1: tables.* should be a mapping"):
        read_recipe(path)


def test_no_word_of_a_dialect_stands_bare():
    checks = Checks(DIALECTS["bigquery"], ["raw"]).all(
        [CheckedTable("t", "full", ("id",))], keys=True, counts=True, error_after=3
    )
    (counts,) = (one.sql for one in checks if one.id == "row_counts")
    assert re.findall(r"(?<!`)\bhash\b(?!`)", counts) == []


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ('"*.*": , a.b: {disabled: true}', "not selected any more: a.b"),
        ('"*.*": , a.b: {mode: snapshot}', "in another mode now: a.b"),
        ('"*.*": , a.d: ', "new: a.d"),
    ],
)
def test_a_job_that_its_lock_does_not_know_is_not_generated(tmp_path, tables, says):
    path = make_job(tmp_path, {"a.b": None, "a.c": None})
    path.write_text(path.read_text().replace('"*.*": ', tables))
    with pytest.raises(UsageError, match=f"older than the job: {says}"):
        read_recipe(path)


def test_check_says_how_it_was_generated(job):
    recipe = read_recipe(job, style="tasks", batch_small=4)
    write_pipeline(recipe, recipe.pipeline)
    job.write_text(job.read_text().replace("max_parallel: 3", "max_parallel: 2"))
    (found,) = check_pipelines(recipe.root, [])
    assert (found.state, found.command) == ("differs", "orchestra/jobs/shop.yml --style tasks --batch-small 4")


def test_what_a_person_should_know(tmp_path):
    more = "  quality: {freshness: {a.b: 1d}}\n"
    path = make_job(tmp_path, {"a.b": None}, kind="duckdb", more=more)
    path.write_text(path.read_text().replace('  connections: {python: "${{ ENV.PY }}"}\n', "  # none\n"))
    first, second, third = notes(read_recipe(path))
    assert "a container of its own" in first
    assert "freshness is not tested" in second
    assert "production.connections.python" in third
