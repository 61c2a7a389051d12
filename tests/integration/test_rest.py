"""The same configuration by dlt's own engine and by ours, on one server; then what only ours has to keep."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connectors.testing.rest import RestDouble
from tests.conftest import Cli, Project
from tests.integration.rest_configs import PAGINATORS

_ROOT = Path(__file__).resolve().parents[2]
_START = datetime(2024, 1, 1, tzinfo=UTC)


def _things(count: int = 57) -> list[dict[str, Any]]:
    """Objects of every type, with the cursor in the order of the ids."""
    return [
        {
            "id": i,
            "name": f"thing {i} – é",
            "price": i / 8,
            "open": i % 2 == 0,
            "updated_at": (_START + timedelta(hours=i)).isoformat().replace("+00:00", "Z"),
            "day": (_START + timedelta(days=i)).date().isoformat(),
            "owner": {"id": i % 5, "tags": ["a", str(i)]} if i % 4 else None,
            "lines": [{"sku": f"s{n}", "n": n} for n in range(i % 3)],
            "note": None if i % 10 else f"note {i}",
        }
        for i in range(1, count + 1)
    ]


def _parts(things: list[dict[str, Any]], most: int = 23) -> list[dict[str, Any]]:
    return [
        {"id": 1000 * one["id"] + n, "parent_id": one["id"], "weight": n}
        for one in things
        for n in range(one["id"] * 7 % most)
    ]


@pytest.fixture
def api(project: Project) -> Iterator[RestDouble]:
    things = _things()
    parts = _parts(things)
    with RestDouble() as double:
        double.tables = {
            "things": things,
            "things.parts": parts,
            "parts.bits": [{"id": 10 * one["id"], "parent_id": one["id"]} for one in parts if one["id"] % 2],
            "orders": things,
            "none": [],
        }
        project.environ["API"] = double.url
        yield double


def _job(project: Project, source: dict[str, Any], tables: Any = None, **more: Any) -> None:
    whole = {
        "name": "rest",
        "source": {"type": "rest", **source},
        "destination": {"type": "duckdb", "path": "warehouse.duckdb", "dataset": "raw"},
        "tables": tables or {"rest.*": None},
        **more,
    }
    project.job(json.dumps(whole))


def _run(cli: Cli, *arguments: str, code: int = 0) -> str:
    said = cli("backfill", "job.yml", *arguments)
    assert said.code == code, said.out + said.err
    return said.out + said.err


def _theirs(project: Project, config: str | dict[str, Any]) -> Path:
    """Load by dlt, in a process of its own."""
    place = project.folder / "theirs.duckdb"
    if isinstance(config, dict):
        file = project.folder / "config.json"
        file.write_text(json.dumps(config), "utf-8")
        config = str(file)
    command = [sys.executable, "-m", "tests.integration.rest_pipeline", config, str(place), str(project.folder / "dlt")]
    done = subprocess.run(command, cwd=_ROOT, env=_environ(project), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def _environ(project: Project) -> dict[str, str]:
    import os

    return {**os.environ, **project.environ}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, str) and value[:1] in ("{", "["):
        return json.dumps(json.loads(value), sort_keys=True)
    return value


def _rows(place: Path) -> dict[str, list[str]]:
    """Return every table's rows by value, NULLs left out, without the books."""
    with duckdb.connect(str(place), read_only=True) as connection:
        names = connection.execute("select table_name from duckdb_tables() where schema_name = 'raw'").fetchall()
        found = {}
        for (name,) in names:
            if name.startswith(("_dlt_", "_runner_")):
                continue
            cursor = connection.execute(f'select * from raw."{name}"')
            columns = [one[0] for one in cursor.description or ()]
            found[name] = sorted(
                json.dumps(
                    {
                        column: _plain(value)
                        for column, value in zip(columns, row, strict=True)
                        if value is not None and not column.startswith(("_dlt_", "_runner_"))
                    },
                    sort_keys=True,
                )
                for row in cursor.fetchall()
            )
    return {name: rows for name, rows in found.items() if rows}


def _same(project: Project, cli: Cli, config: dict[str, Any] | str) -> dict[str, list[str]]:
    """Run a configuration by both, and compare tables and rows."""
    theirs = _rows(_theirs(project, config))
    if isinstance(config, str):
        _job(project, {"config": f"tests.integration.rest_configs:{config}"})
    else:
        _job(project, config)
    _run(cli)
    ours = _rows(project.warehouse)
    assert ours == theirs
    return ours


AUTHS: dict[str, tuple[dict[str, Any], Any]] = {
    "shorthand": ({"token": "t0ken"}, lambda r: r.headers.get("Authorization") == "Bearer t0ken"),
    "bearer": ({"type": "bearer", "token": "t0ken"}, lambda r: r.headers.get("Authorization") == "Bearer t0ken"),
    "header": (
        {"type": "api_key", "name": "X-Key", "api_key": "k3y", "location": "header"},
        lambda r: r.headers.get("X-Key") == "k3y",
    ),
    "query": (
        {"type": "api_key", "name": "api_key", "api_key": "k3y", "location": "query"},
        lambda r: r.query.getall("api_key") == ["k3y"],
    ),
    "basic": (
        {"type": "http_basic", "username": "me", "password": "pä:ss"},
        lambda r: r.headers.get("Authorization") == "Basic bWU6cMOkOnNz",
    ),
    "oauth2": (
        {
            "type": "oauth2_client_credentials",
            "access_token_url": "URL/oauth/token",
            "client_id": "me",
            "client_secret": "s3cret!",
            "access_token_request_data": {"scope": "read"},
        },
        None,
    ),
}


class TestSameAsDlt:
    @pytest.mark.parametrize("place", ["client", "endpoint"])
    def test_every_paginator_and_those_of_children(
        self, project: Project, api: RestDouble, cli: Cli, place: str
    ) -> None:
        resources: list[Any] = []
        for style, paginator in PAGINATORS.items():
            own = {} if place == "client" else {"paginator": paginator}
            resources += [
                {"name": f"{style}_things", "endpoint": {"path": f"{style}/things", **own}, "primary_key": "id"},
                {
                    "name": f"{style}_parts",
                    "endpoint": {
                        "path": f"{style}/things/{{resources.{style}_things.id}}/parts",
                        "params": {"size": 9},
                        **own,
                    },
                    "include_from_parent": ["id", "name"],
                },
            ]
        if place == "client":
            resources = [one for one in resources if one["name"].startswith("offset_")]
        found = _same(
            project, cli, {"client": {"base_url": api.url, "paginator": PAGINATORS["offset"]}, "resources": resources}
        )
        assert all(len(rows) in (57, len(api.tables["things.parts"])) for rows in found.values())
        assert len(found) == len(resources)

    def test_what_is_detected(self, project: Project, api: RestDouble, cli: Cli) -> None:
        styles = ("link", "relative", "header", "numbers", "cursor", "single")
        config = {
            "client": {"base_url": f"{api.url}/"},
            "resources": [{"name": style, "endpoint": {"path": f"/{style}/things"}} for style in styles],
        }
        # Both begin to count at 0, which only ``numbers`` does, and it calls its parameter otherwise.
        config["resources"][3]["endpoint"]["paginator"] = PAGINATORS["numbers"]
        found = _same(project, cli, config)
        assert {len(rows) for rows in found.values()} == {57}

    def test_bodies(self, project: Project, api: RestDouble, cli: Cli) -> None:
        base = {"path": "search/things", "method": "POST", "data_selector": "hits.hits"}
        pagers = {
            "offsets": {
                "type": "offset",
                "limit": 8,
                "offset_body_path": "paging.offset",
                "limit_body_path": "paging.limit",
                "total_path": "hits.total",
            },
            "pages": {"type": "page_number", "page_body_path": "paging.page", "total_path": "hits.pages"},
            "cursors": {"type": "cursor", "cursor_path": "after", "cursor_body_path": "paging.cursor"},
        }
        config = {
            "client": {"base_url": api.url},
            "resource_defaults": {"endpoint": {"json": {"match": {"open": True}}}},
            "resources": [{"name": name, "endpoint": {**base, "paginator": one}} for name, one in pagers.items()],
        }
        found = _same(project, cli, config)
        assert {len(rows) for rows in found.values()} == {28}

    @pytest.mark.parametrize(("auth", "guard"), AUTHS.values(), ids=AUTHS)
    def test_every_way_to_authenticate(
        self, project: Project, api: RestDouble, cli: Cli, auth: dict[str, Any], guard: Any
    ) -> None:
        api.guard = guard or api.by_token
        auth = {
            name: value.replace("URL", api.url) if isinstance(value, str) else value for name, value in auth.items()
        }
        config = {
            "client": {"base_url": api.url, "auth": auth, "headers": {"X-Team": "data"}},
            "resources": [
                {"name": "things", "endpoint": {"path": "page/things", "paginator": PAGINATORS["page"]}},
                {"name": "links", "endpoint": {"path": "link/things", "paginator": PAGINATORS["link"]}},
            ],
        }
        found = _same(project, cli, config)
        assert {name: len(rows) for name, rows in found.items()} == {"things": 57, "links": 57}
        assert all(one.headers.get("x-team") == "data" for one in api.seen if "/oauth" not in one.path)
        assert not api.count(status=401)

    @pytest.mark.parametrize("name", ["header", "query", "basic", "oauth2"])
    def test_all_of_it_together(self, project: Project, api: RestDouble, cli: Cli, name: str) -> None:
        auth, guard = AUTHS[name]
        api.guard = guard or api.by_token
        project.environ["AUTH"] = json.dumps(auth).replace("URL", api.url)
        found = _same(project, cli, "matrix")
        assert {len(rows) for table, rows in found.items() if table.endswith("things")} == {37}
        assert len({len(rows) for table, rows in found.items() if table.endswith("parts")}) == 1
        assert len(found) == 2 * len(PAGINATORS)
        assert not api.count(status=401)

    def test_a_key_may_be_a_cookie(self, project: Project, api: RestDouble, cli: Cli) -> None:
        # dlt knows the place and does not implement it.
        api.guard = lambda r: r.cookies.get("session") == "k3y"
        auth = {"type": "api_key", "name": "session", "api_key": "k3y", "location": "cookie"}
        resource = {"name": "things", "endpoint": {"path": "page/things", "paginator": PAGINATORS["page"]}}
        _job(project, {"client": {"base_url": api.url, "auth": auth}, "resources": [resource]})
        _run(cli)
        assert len(_rows(project.warehouse)["things"]) == 57

    def test_parents_of_parents_and_the_older_way_to_name_them(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        config = {
            "client": {"base_url": api.url, "paginator": PAGINATORS["page"]},
            "resource_defaults": {"primary_key": "id", "endpoint": {"params": {"size": 11}}},
            "resources": [
                {"name": "things", "endpoint": {"path": "page/things"}},
                {
                    "name": "parts",
                    "endpoint": {
                        "path": "page/things/{thing}/parts",
                        "params": {"thing": {"type": "resolve", "resource": "things", "field": "id"}},
                    },
                    "include_from_parent": ["owner", "updated_at"],
                },
                {"name": "bits", "endpoint": {"path": "page/parts/{resources.parts.id}/bits"}},
                {"name": "each", "endpoint": {"path": "one/things/{resources.things.id}", "params": {"size": None}}},
                {
                    "name": "by_body",
                    "endpoint": {
                        "path": "search/parts",
                        "method": "POST",
                        "json": {"match": {"parent_id": "{resources.things.id}"}},
                        "data_selector": "hits.hits[*]",
                        "paginator": {"type": "offset", "limit": 5, "offset_body_path": "paging.offset",
                                      "limit_body_path": "paging.limit", "total_path": "hits.total"},
                    },
                },
                {"name": "fixed", "endpoint": {"path": "{where}/things", "params": {"where": "page"}}},
            ],
        }  # fmt: skip
        api.tables["parts"] = api.tables["things.parts"]
        found = _same(project, cli, config)
        assert set(found) == {"things", "parts", "bits", "each", "by_body", "fixed"}
        assert len(found["by_body"]) == len(found["parts"]) == len(api.tables["things.parts"])

    def test_incremental(self, project: Project, api: RestDouble, cli: Cli) -> None:
        page = {"path": "page/things", "paginator": PAGINATORS["page"]}
        cursor = {"cursor_path": "updated_at", "initial_value": "2024-01-01T20:00:00Z"}
        blocks: dict[str, Any] = {
            "by_param": {"incremental": {**cursor, "start_param": "since"}},
            "by_expression": {"incremental": cursor, "params": {"since": "{incremental.start_value}"}},
            "older": {"params": {"since": {"type": "incremental", **cursor}}},
            "here": {"incremental": cursor},
            "ranged": {"incremental": {**cursor, "end_value": "2024-01-02T10:00:00Z", "end_param": "until"}},
            "closed": {
                "incremental": {**cursor, "end_value": "2024-01-02T10:00:00Z", "range_end": "closed",
                                "range_start": "open"}
            },
            "newest_first": {"incremental": {**cursor, "row_order": "desc"}, "params": {"desc": 1}},
            "oldest_first": {"incremental": {**cursor, "end_value": "2024-01-02T10:00:00Z", "row_order": "asc"}},
            "numbers": {"incremental": {"cursor_path": "id", "initial_value": 17, "lag": 3}},
            "sparse": {"incremental": {"cursor_path": "note", "on_cursor_value_missing": "include"}},
            "dense": {"incremental": {"cursor_path": "owner.id", "on_cursor_value_missing": "exclude"}},
        }  # fmt: skip
        config = {
            "client": {"base_url": api.url},
            "resources": [{"name": name, "endpoint": {**page, **one}} for name, one in blocks.items()],
        }
        theirs = _rows(_theirs(project, config))
        before = len(api.seen)
        _job(project, config)
        _run(cli)
        ours = _rows(project.warehouse)
        # A nested cursor is a column here, so that it can be one.
        ours["dense"] = sorted(
            json.dumps(
                {name: value for name, value in json.loads(row).items() if name != "cursor_owner_id"}, sort_keys=True
            )
            for row in ours["dense"]
        )
        assert ours == theirs
        assert len(ours["by_param"]) == 38
        assert len(ours["ranged"]) == 14
        assert any("since=2024-01-01T20%3A00%3A00Z" in one.query for one in api.seen[before:])

    def test_selectors_values_and_actions(self, project: Project, api: RestDouble, cli: Cli) -> None:
        page = {"paginator": PAGINATORS["page"]}
        config = {
            "client": {"base_url": api.url},
            "resources": [
                {"name": "names", "endpoint": {"path": "page/things", "data_selector": "items[*].name", **page}},
                {
                    "name": "all_lines",
                    "endpoint": {"path": "page/things", "data_selector": "$.items[*].lines[*]", **page},
                },
                {
                    "name": "meta",
                    "endpoint": {"path": "single/things", "data_selector": "meta", "params": {"tag": "x y&z"}},
                },
                {
                    "name": "gone",
                    "endpoint": {"path": "page/absent", "response_actions": [{"status_code": 404, "action": "ignore"}]},
                },
                {
                    "name": "some_parts",
                    "endpoint": {
                        "path": "one/things/9{resources.groups.id}",
                        "response_actions": [{"content": "no such", "action": "ignore"}],
                        **page,
                    },
                },
                {
                    "name": "groups",
                    "selected": False,
                    "endpoint": {"path": "page/orders", "params": {"size": 3}, **page},
                },
                {
                    "name": "renamed",
                    "table_name": "Some Things",
                    "endpoint": "header/things",
                    "write_disposition": "replace",
                    "columns": {"price": {"data_type": "text"}, "id": {"data_type": "double"}},
                },
            ],
        }
        theirs = _rows(_theirs(project, config))
        _job(project, config)
        _run(cli)
        assert _rows(project.warehouse) == theirs
        assert set(theirs) == {"names", "all_lines", "meta", "some_things"}

    @pytest.mark.parametrize("name", ["steps", "converted"])
    def test_configurations_in_python(self, project: Project, api: RestDouble, cli: Cli, name: str) -> None:
        assert all(_same(project, cli, name).values())
