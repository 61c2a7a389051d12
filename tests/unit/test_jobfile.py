"""From files on disk to a settled job."""

from datetime import timedelta
from pathlib import Path

import pytest

from runner.errors import JobFileError, NotYet, SecretMissing, UsageError
from runner.jobfile import load_job, validate_entry

CONNECTIONS = """\
sources:
  shop: {type: postgres, dsn: "${SHOP_DSN:-postgres://localhost/shop}"}
  other: {type: postgres, host: elsewhere, limits: {connections: 2, tables: 4}}
destinations:
  warehouse: {type: duckdb, path: house.duckdb}
  lake: {type: postgres, dsn: "${LAKE_DSN}"}
"""


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "pyproject.toml").touch()
        self.job = root / "shop.yml"
        self.connections(CONNECTIONS)

    def connections(self, text: str, folder: str = ".") -> None:
        (self.root / folder / "connections.yml").write_text(text)

    def load(self, text: str, *, environ: dict[str, str] | None = None, **more):
        head = "" if "\nsource:" in f"\n{text}" else "source: shop\n"
        self.job.write_text(f"name: shop\n{head}{text}" + ("" if "\ntables:" in f"\n{text}" else "tables:\n  a.b:\n"))
        return load_job(self.job, environ=environ or {}, **more)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_the_smallest_job(project):
    settled = project.load("")
    assert settled.source_name == "shop"
    assert settled.source.type == "postgres"
    assert settled.source.options == {"dsn": "postgres://localhost/shop"}
    assert (settled.destination_name, settled.destination.type) == ("duckdb", "duckdb")
    assert settled.destination.dataset == "raw_{source}"
    assert settled.environment is None
    assert settled.limits.connections == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tabels: {}\n", "shop.yml:3: tabels: unknown key. Did you mean 'tables'?"),
        ("limits:\n  tables: 4\n  conections: 2\n", "shop.yml:5: limits.conections: unknown key. Did you mean 'con"),
        ("tables:\n  a.b:\n    mod: full\n", "shop.yml:5: tables.a.b.mod: unknown key. Did you mean 'mode'?"),
        ("defaults: {kee: [id]}\n", "shop.yml:3: defaults.kee: unknown key. Did you mean 'key'?"),
        ("tables:\n  a.b: {as: x}\n  c.d:\n    schma: evolve\n", "shop.yml:6: tables.c.d.schma: unknown key. Did"),
        ("retry: {attempts: many}\n", "shop.yml:3: retry.attempts: input should be a valid integer"),
        ("limits:\n  memory: lots\n", "shop.yml:4: limits.memory: 'lots' is not a size; write for example"),
        ("tables:\n  a.b: {mode: never}\n", "shop.yml:4: tables.a.b.mode: input should be 'full', 'append'"),
        ("tables:\n  a.b:\n    lag: soon\n", "shop.yml:5: tables.a.b.lag: 'soon' is not a duration"),
        ("tables:\n  a.b: {deletes: {colum: x}}\n", "shop.yml:4: tables.a.b.deletes"),
        ("tables:\n  a.b: full\n", "shop.yml:4: tables.a.b: "),
        ("tables: {}\n", "shop.yml:3: tables: "),
        ("retry: {attempts: 1}\nretry: {attempts: 2}\n", "shop.yml:4: the key 'retry' stands twice."),
        ("limits: {tables: 1\n", "shop.yml:"),
    ],
)
def test_mistakes_are_named_with_line_and_nearest_key(project, text, message):
    with pytest.raises(JobFileError) as refused:
        project.load(text)
    assert f"{project.root}/{message}" in refused.value.message
    assert refused.value.exit_code == 2
    assert refused.value.context["line"] >= 3


@pytest.mark.parametrize("missing", ["name", "source", "tables"])
def test_needed_keys(tmp_path, missing):
    keys = {"name": "shop", "source": "{type: postgres}", "tables": "{a.b: }"}
    path = tmp_path / "shop.yml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in keys.items() if key != missing))
    with pytest.raises(JobFileError, match=f":1: {missing}: this key is needed"):
        load_job(path, environ={})


def test_no_job_file(tmp_path):
    with pytest.raises(JobFileError, match="no such file"):
        load_job(tmp_path / "none.yml", environ={})


class TestConnections:
    def test_beside_the_job_file_comes_before_the_folder_above(self, project):
        (project.root / "jobs").mkdir()
        project.job = project.root / "jobs" / "shop.yml"
        assert project.load("").source.options == {"dsn": "postgres://localhost/shop"}
        project.connections("sources: {shop: {type: postgres, host: near}}\n", "jobs")
        assert project.load("").source.options == {"host": "near"}

    def test_an_unknown_source_names_line_file_and_nearest(self, project):
        with pytest.raises(JobFileError) as refused:
            project.load("source: shpo\n")
        assert "shop.yml:2: source: 'shpo' is not in" in refused.value.message
        assert "connections.yml" in refused.value.message
        assert "Did you mean 'shop'?" in refused.value.message

    def test_an_unknown_destination(self, project):
        with pytest.raises(JobFileError, match=r"shop\.yml:3: destination: 'warehose' .* mean 'warehouse'"):
            project.load("destination: warehose\n")

    def test_without_a_file(self, project):
        (project.root / "connections.yml").unlink()
        with pytest.raises(JobFileError, match="which does not exist"):
            project.load("")

    def test_a_mistake_in_it_is_named_there(self, project):
        project.connections("sources:\n  shop:\n    host: x\n")
        with pytest.raises(JobFileError, match=r"connections\.yml:\d: sources\.shop\.type: this key is needed"):
            project.load("")

    def test_an_unknown_section_in_it(self, project):
        project.connections("sorces:\n  shop: {type: postgres}\n")
        with pytest.raises(JobFileError, match=r"connections\.yml:1: sorces: unknown key\. Did you mean 'sources'"):
            project.load("")

    def test_inline(self, project):
        settled = project.load("source: {type: postgres, host: h}\ndestination: {type: duckdb, path: p}\n")
        assert (settled.source_name, settled.source.options) == ("postgres", {"host": "h"})
        assert (settled.destination_name, settled.destination.options) == ("duckdb", {"path": "p"})

    def test_a_destination_starts_from_a_connection(self, project):
        settled = project.load("destination: {connection: warehouse, dataset: lake, path: other.duckdb}\n")
        assert settled.destination_name == "warehouse"
        assert settled.destination.type == "duckdb"
        assert settled.destination.dataset == "lake"
        assert settled.destination.options["path"] == "other.duckdb"

    def test_a_connection_keeps_its_type(self, project):
        with pytest.raises(JobFileError, match=r"shop\.yml:3: destination\.type: .*'warehouse' is of type 'duckdb'"):
            project.load("destination: {connection: warehouse, type: postgres}\n")

    def test_limits_of_the_job_win_over_those_of_the_source(self, project):
        settled = project.load("source: other\nlimits: {tables: 7}\n")
        assert (settled.limits.connections, settled.limits.tables) == (2, 7)
        assert settled.limits.park == timedelta(minutes=15)
        assert "limits" not in settled.source.options

    def test_limits_of_a_source_may_be_a_rate(self, project):
        project.connections("sources: {shop: {type: postgres, limits: {rate: 10/s, memory: 1GiB, park: 1m}}}\n")
        limits = project.load("").limits
        assert (limits.rate, limits.memory, limits.park) == (10, 2**30, timedelta(minutes=1))


OVERLAID = """\
destination: {type: duckdb, path: dev.duckdb, dataset: "d_{env}", threads: 4}
limits: {tables: 4, connections: 3}
tables:
  a.b: {mode: full}
environments:
  dev:
  test:
    limits: {tables: 1}
    tables:
      a.b: {lag: 5m}
      c.d:
  prod:
    protected: true
    destination: {type: postgres, dsn: "${LAKE_DSN}"}
"""


class TestEnvironments:
    def test_none(self, project):
        settled = project.load(OVERLAID)
        assert settled.environment is None
        assert settled.limits.tables == 4
        assert list(settled.job.tables) == ["a.b"]

    def test_an_overlay_is_merged_deeply(self, project):
        settled = project.load(OVERLAID, env="test")
        assert settled.environment == "test"
        assert (settled.limits.tables, settled.limits.connections) == (1, 3)
        assert list(settled.job.tables) == ["a.b", "c.d"]
        entry = settled.job.tables["a.b"]
        assert (entry.mode, entry.lag) == ("full", timedelta(minutes=5))
        assert settled.destination.options == {"path": "dev.duckdb", "threads": 4}

    def test_an_empty_overlay_changes_nothing(self, project):
        settled = project.load(OVERLAID, env="dev")
        assert (settled.environment, settled.limits.tables) == ("dev", 4)

    def test_another_type_drops_the_keys_of_the_first(self, project):
        settled = project.load(OVERLAID, env="prod", environ={"LAKE_DSN": "postgres://lake"})
        assert settled.destination.type == "postgres"
        assert settled.destination.options == {"dsn": "postgres://lake"}
        assert settled.destination.dataset == "d_{env}"

    def test_another_connection_under_the_same_type_keeps_its_own_keys(self, project):
        settled = project.load(
            "destination: {connection: warehouse, dataset: d}\nenvironments: {x: {destination: {dataset: e}}}\n",
            env="x",
        )
        assert settled.destination.dataset == "e"
        assert settled.destination.options["path"] == "house.duckdb"

    def test_a_name_replaces_a_mapping(self, project):
        settled = project.load(
            "destination: {type: duckdb, path: p}\nenvironments: {x: {destination: warehouse}}\n", env="x"
        )
        assert settled.destination.options == {"path": "house.duckdb"}

    def test_the_variable_chooses(self, project):
        assert project.load(OVERLAID, environ={"ENVIRONMENT": "test"}).limits.tables == 1

    def test_the_command_line_comes_before_the_variable(self, project):
        assert project.load(OVERLAID, env="dev", environ={"ENVIRONMENT": "test"}).environment == "dev"

    def test_the_variable_alone_does_not_matter_without_environments(self, project):
        assert project.load("", environ={"ENVIRONMENT": "prod"}).environment == "prod"

    @pytest.mark.parametrize("named", [{"env": "prod"}, {"task": True}])
    def test_a_protected_environment_is_named(self, project, named):
        environ = {"ENVIRONMENT": "prod", "LAKE_DSN": "x"}
        with pytest.raises(UsageError, match="'prod' is protected"):
            project.load(OVERLAID, environ=environ)
        assert project.load(OVERLAID, environ=environ, **named).environment == "prod"

    def test_an_unknown_environment(self, project):
        with pytest.raises(UsageError, match=r"no environment 'tset'. Did you mean 'test'") as refused:
            project.load(OVERLAID, env="tset")
        assert "dev, test, prod" in refused.value.advice

    def test_an_environment_that_is_asked_of_a_job_without_any(self, project):
        with pytest.raises(UsageError, match="no environment 'x'"):
            project.load("", env="x")

    @pytest.mark.parametrize(
        ("overlay", "message"),
        [
            ("tabels: {}", "unknown key 'tabels'"),
            ("name: other", "'name' cannot differ"),
            ("limits: {tabels: 1}", r"shop\.yml:5: .*tabels: unknown key"),
            ("limits: {tables: 0}", r"shop\.yml:5: .*tables: input should be"),
        ],
    )
    def test_a_mistake_in_an_overlay_is_named(self, project, overlay, message):
        with pytest.raises(JobFileError, match=message):
            project.load(f"environments:\n  x:\n    {overlay}\n", env="x")


class TestSecrets:
    def test_references_are_resolved_for_what_is_used_only(self, project):
        settled = project.load("", environ={"SHOP_DSN": "postgres://u:p@h/db"})
        assert settled.source.options == {"dsn": "postgres://u:p@h/db"}

    def test_a_missing_variable(self, project):
        with pytest.raises(SecretMissing, match=r"\$\{LAKE_DSN\}: the variable is not set"):
            project.load("destination: lake\n")

    def test_dotenv_beside_the_job_file(self, project, monkeypatch):
        monkeypatch.delenv("LAKE_DSN", raising=False)
        monkeypatch.delenv("ENVIRONMENT", raising=False)
        (project.root / ".env").write_text("export LAKE_DSN='from the file'\n")
        project.load("")
        project.job.write_text("name: shop\nsource: shop\ndestination: lake\ntables: {a.b: }\n")
        assert load_job(project.job).destination.options == {"dsn": "from the file"}
        monkeypatch.setenv("LAKE_DSN", "from the process")
        assert load_job(project.job).destination.options == {"dsn": "from the process"}

    def test_nothing_secret_in_the_repr(self, project):
        settled = project.load("", environ={"SHOP_DSN": "postgres://u:hunter2@h/db"})
        assert "hunter2" not in repr(settled)


class TestNotYet:
    def test_known_keys_that_do_nothing_yet_are_refused(self, project):
        with pytest.raises(NotYet) as refused:
            project.load("transform: {type: dbt, project: p}\n")
        assert "shop.yml:3: transform: building models" in refused.value.message
        assert "not implemented yet" in refused.value.message
        assert refused.value.exit_code == 2

    @pytest.mark.parametrize("entry", ["deletes: ignore", "late: ignore", "mode: incremental", "special: 'null'"])
    def test_the_neighbours_are_not(self, project, entry):
        assert project.load(f"tables:\n  a.b: {{{entry}}}\n").job.tables["a.b"] is not None


class TestEntryFromElsewhere:
    def test_a_good_one(self):
        entry = validate_entry({"mode": "full", "as": "x"}, "PARAMS")
        assert (entry.mode, entry.as_) == ("full", "x")

    def test_a_wrong_one(self):
        with pytest.raises(JobFileError, match=r"PARAMS.*mod: unknown key\. Did you mean 'mode'"):
            validate_entry({"mod": "full"}, "PARAMS")
