"""What a source of type rest keeps when the API changes, fails or lies: no row lost, none twice where there is a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.testing.rest import RestDouble
from tests.conftest import Cli, Project

_START = datetime(2024, 1, 1, tzinfo=UTC)
PAGE = {"type": "page_number", "base_page": 1, "total_path": "total_pages"}
LINK = {"type": "json_link", "next_url_path": "paging.next"}


def _at(hours: float) -> str:
    return (_START + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


@pytest.fixture
def api(project: Project) -> Iterator[RestDouble]:
    with RestDouble() as double:
        double.tables = {"things": [{"id": i, "name": f"n{i}", "updated_at": _at(i)} for i in range(1, 101)]}
        yield double


def _resource(style: str = "page", name: str = "things", **more: Any) -> dict[str, Any]:
    paginator = {"page": PAGE, "link": LINK, "offset": {"type": "offset", "limit": 10}}.get(style, "auto")
    endpoint = {"path": f"{style}/things", "paginator": paginator, **more.pop("endpoint", {})}
    return {"name": name, "primary_key": "id", "endpoint": endpoint, **more}


def _job(
    project: Project, api: RestDouble, *resources: Any, tables: Any = None, client: Any = None, **more: Any
) -> None:
    whole = {
        "name": "rest",
        "source": {"type": "rest", "client": {"base_url": api.url, **(client or {})}, "resources": list(resources)},
        "destination": {"type": "duckdb", "path": "warehouse.duckdb", "dataset": "raw"},
        "tables": tables or {"rest.*": None},
        **more,
    }
    project.job(json.dumps(whole))


def _run(cli: Cli, *arguments: str, code: int = 0) -> str:
    said = cli("backfill", "job.yml", *arguments)
    assert said.code == code, said.out + said.err
    return said.out + said.err


def _ids(project: Project, table: str = "things") -> list[int]:
    return [row[0] for row in project.query(f"select id from raw.{table} order by 1")]


ALL = list(range(1, 101))


class TestColumns:
    @pytest.mark.parametrize("style", ["page", "link"])
    def test_what_the_first_page_does_not_show_is_not_lost(
        self, project: Project, api: RestDouble, cli: Cli, style: str
    ) -> None:
        rows: list[dict[str, Any]] = [{"id": i, "code": i, "empty": None} for i in range(1, 801)]
        for row in rows[:10]:
            row["code"] = row["id"]
        rows[499]["late"] = {"deep": [1, 2.5]}
        rows[699]["code"] = "B-700"
        rows[799]["empty"] = 12345678901234567890.125
        api.tables["things"] = rows
        _job(project, api, _resource(style))
        said = _run(cli)
        assert _ids(project) == list(range(1, 801))
        assert project.query("select code from raw.things where id in (1, 700) order by id") == [("1",), ('"B-700"',)]
        assert json.loads(project.query("select late from raw.things where id = 500")[0][0]) == {"deep": [1, 2.5]}
        assert "late is json" in said
        # What was learned is known to the next run.
        before = len(api.seen)
        assert "table_replanned" not in _run(cli)
        assert len(api.seen) - before == 81

    def test_hints_are_types_and_numbers_are_times_where_they_say_so(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        api.tables["things"] = [{"id": 1, "createdAt": 1704067200, "amount": "12.50", "flag": None}]
        hints = {
            "created_at": {"data_type": "timestamp"},
            "amount": {"data_type": "decimal", "precision": 10, "scale": 2},
            "flag": {"data_type": "bool"},
        }
        _job(project, api, _resource(columns=hints))
        _run(cli)
        found = project.query(
            "select created_at at time zone 'UTC', amount::text, flag, typeof(amount) from raw.things"
        )
        assert found == [(datetime(2024, 1, 1), "12.50", None, "DECIMAL(10,2)")]

    def test_one_resource_that_fails_does_not_stop_the_others(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        broken = {"name": "broken", "endpoint": "page/absent"}
        empty = {"name": "empty", "endpoint": {"path": "page/none", "paginator": PAGE}}
        api.tables["none"] = []
        _job(project, api, _resource(), broken, empty)
        said = _run(cli, code=1)
        assert "nothing at /page/absent" in said
        assert _ids(project) == ALL
        assert "rest.empty" not in said

    def test_rows_that_only_a_late_parent_has_are_not_passed_by(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        api.tables["things.parts"] = [{"id": 5, "parent_id": 93, "weight": 2.5}]
        child = {"name": "parts", "primary_key": "id", "endpoint": "page/things/{resources.things.id}/parts"}
        _job(project, api, _resource(), child)
        _run(cli)
        assert project.query("select id, parent_id, weight from raw.parts") == [(5, 93, 2.5)]

    def test_an_empty_resource_that_the_job_names_is_an_empty_table(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        api.tables["things"] = []
        block = {"cursor_path": "updated_at", "start_param": "since"}
        resource = _resource(write_disposition="append", endpoint={"incremental": block})
        _job(project, api, resource, tables={"rest.things": {}})
        _run(cli)
        assert project.query("select count(*) from raw.things") == [(0,)]
        api.tables["things"] = [{"id": 1, "name": "first", "updated_at": _at(1)}]
        _run(cli)
        _run(cli)
        assert project.query("select id, name from raw.things") == [(1, "first")]

    def test_append_by_what_cannot_be_a_cursor_is_refused(self, project: Project, api: RestDouble, cli: Cli) -> None:
        _job(project, api, _resource(write_disposition="append", endpoint={"incremental": {"cursor_path": "name"}}))
        assert "text ('name') cannot order changes" in _run(cli, code=2)

    def test_an_unknown_key_is_a_mistake_in_the_job(self, project: Project, api: RestDouble, cli: Cli) -> None:
        _job(project, api, _resource(), client={"paginatr": "auto"})
        assert "source.client: unknown key 'paginatr'. Did you mean 'paginator'?" in _run(cli, code=2)
        assert not api.seen

    def test_where_is_refused(self, project: Project, api: RestDouble, cli: Cli) -> None:
        _job(project, api, _resource(), tables={"rest.things": {"where": "id > 3"}})
        assert "an API has no conditions of its own" in _run(cli, code=1)


class TestIncremental:
    def _changing(self, **more: Any) -> dict[str, Any]:
        block = {"cursor_path": "updated_at", "initial_value": _at(0), "start_param": "since", **more}
        return _resource(write_disposition="merge", endpoint={"incremental": block})

    def test_the_next_run_asks_from_the_mark_on_as_the_server_writes_times(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        _job(project, api, self._changing())
        _run(cli)
        assert project.query("select max(updated_at) at time zone 'UTC' from raw.things") == [
            (datetime(2024, 1, 5, 4),)
        ]
        api.tables["things"][4] |= {"name": "changed", "updated_at": _at(200)}
        api.tables["things"].append({"id": 101, "name": "new", "updated_at": _at(201)})
        before = len(api.seen)
        _run(cli)
        assert _ids(project) == [*ALL, 101]
        assert project.query("select name from raw.things where id = 5") == [("changed",)]
        asked = [one.query for one in api.seen[before:]]
        # The first request looks at the columns, from the beginning on.
        assert asked[0].startswith("since=2024-01-01T00%3A00%3A00Z")
        assert asked[1:]
        assert all(one.startswith("since=2024-01-05T04%3A00%3A00Z") for one in asked[1:])
        # Nothing new: the mark stays where it is, and does not wander back by the lag.
        _run(cli)
        before = len(api.seen)
        _run(cli)
        assert api.seen[-1].query.startswith("since=2024-01-09T09%3A00%3A00Z")

    def test_lag_is_in_seconds_and_does_not_reach_behind_the_first_value(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        _job(project, api, self._changing(lag=7200))
        _run(cli)
        _run(cli)
        assert api.seen[-1].query.startswith("since=2024-01-05T02%3A00%3A00Z")
        _job(project, api, self._changing(lag=10**8))
        _run(cli)
        assert api.seen[-1].query.startswith("since=2024-01-01T00%3A00%3A00Z")

    def test_no_mark_reaches_the_time_at_which_reading_began(self, project: Project, api: RestDouble, cli: Cli) -> None:
        """A row that changes behind the reader is later than that, and so is whatever else changes meanwhile."""
        things = api.tables["things"]

        def change(_: str) -> None:
            if api.count("after=50") and not api.count("after=55"):
                now = datetime.now(UTC)
                things[0] |= {"name": "late", "updated_at": (now + timedelta(seconds=2)).isoformat()}
                things[99] |= {"name": "late", "updated_at": (now + timedelta(seconds=4)).isoformat()}

        api.before = change
        block = {"cursor_path": "updated_at", "start_param": "since"}
        endpoint = {"incremental": block, "params": {"size": 5}}
        _job(project, api, _resource("link", write_disposition="merge", endpoint=endpoint))
        _run(cli)
        assert project.query("select id from raw.things where name = 'late'") == [(100,)]
        _run(cli)
        assert project.query("select id from raw.things where name = 'late' order by 1") == [(1,), (100,)]

    def test_append_leaves_what_is_beyond_that_time_for_the_next_run(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        later = (datetime.now(UTC) + timedelta(hours=5)).isoformat()
        api.tables["things"].append({"id": 101, "name": "later", "updated_at": later})
        block = {"cursor_path": "updated_at", "start_param": "since"}
        _job(project, api, _resource(write_disposition="append", endpoint={"incremental": block}))
        _run(cli)
        _run(cli)
        assert _ids(project) == ALL
        api.tables["things"][-1]["updated_at"] = _at(300)
        _run(cli)
        _run(cli)
        assert _ids(project) == [*ALL, 101]

    def test_since_and_until_are_asked_for_and_replace_the_range(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        _job(project, api, self._changing(end_param="until"))
        _run(cli)
        for row in api.tables["things"]:
            row["name"] = "again"
        _run(cli, "--since", "2024-01-02", "--until", "2024-01-03")
        found = project.query("select id from raw.things where name = 'again' order by 1")
        assert [row[0] for row in found] == list(range(24, 48))
        assert "since=2024-01-02T00%3A00%3A00Z&until=2024-01-03T00%3A00%3A00Z" in api.seen[-1].query

    def test_a_range_of_its_own_is_read_whole_whatever_was_read_before(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        _job(project, api, self._changing(initial_value=_at(50), end_value=_at(60)))
        _run(cli)
        _job(project, api, self._changing(initial_value=_at(10), end_value=_at(20)))
        _run(cli)
        assert _ids(project) == [*range(10, 20), *range(50, 60)]

    def test_rows_newest_first_are_asked_for_as_far_as_they_are_wanted(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        block = {"cursor_path": "updated_at", "row_order": "desc"}
        endpoint = {"incremental": block, "params": {"desc": 1}}
        _job(project, api, _resource(write_disposition="merge", endpoint=endpoint))
        _run(cli)
        api.tables["things"] += [{"id": i, "name": "new", "updated_at": _at(i)} for i in range(101, 113)]
        before = len(api.seen)
        _run(cli)
        assert _ids(project) == list(range(1, 113))
        # One for the columns, one that counts the pages, two pages with the new rows and the last known one.
        assert len(api.seen) - before <= 4

    def test_a_nested_cursor_is_a_column_and_a_mark(self, project: Project, api: RestDouble, cli: Cli) -> None:
        for row in api.tables["things"]:
            row["meta"] = {"changed": row["updated_at"]}
        block = {"cursor_path": "meta.changed", "start_param": "since"}
        _job(project, api, _resource(write_disposition="merge", endpoint={"incremental": block}))
        _run(cli)
        _run(cli)
        assert "since=2024-01-05T04%3A00%3A00Z" in api.seen[-1].query
        assert project.query("select count(distinct cursor_meta_changed) from raw.things") == [(100,)]

    def test_rows_that_are_gone_are_found_by_their_keys(self, project: Project, api: RestDouble, cli: Cli) -> None:
        tables = {"rest.things": {"deletes": "compare", "on_delete": "hard"}}
        _job(project, api, self._changing(), tables=tables)
        _run(cli)
        del api.tables["things"][10:13]
        _run(cli)
        assert _ids(project) == [one for one in ALL if one not in (11, 12, 13)]

    @pytest.mark.parametrize(
        ("more", "mode"),
        [
            ({"write_disposition": "replace"}, "full"),
            ({"write_disposition": "append"}, "append"),
            ({"write_disposition": "merge", "endpoint": {"incremental": {"cursor_path": "updated_at"}}}, "incremental"),
            ({"endpoint": {"incremental": {"cursor_path": "updated_at"}}}, "incremental"),
            ({"endpoint": {"incremental": {"cursor_path": "updated_at"}}, "primary_key": None}, "append"),
            ({"write_disposition": "merge"}, "full"),
            ({"write_disposition": {"disposition": "merge", "strategy": "upsert"}, "merge_key": "name"}, "full"),
            ({"endpoint": {"incremental": {"cursor_path": "name"}}}, "full"),
            ({}, "full"),
        ],
    )
    def test_how_it_is_loaded(
        self, project: Project, api: RestDouble, cli: Cli, more: dict[str, Any], mode: str
    ) -> None:
        _job(project, api, _resource(**more))
        said = cli("plan", "job.yml", "--json")
        assert json.loads(said.out)["tables"][0]["mode"] == mode, said.out


class TestFaults:
    @pytest.mark.parametrize("style", ["page", "link"])
    def test_a_storm_of_faults_costs_no_row(self, project: Project, api: RestDouble, cli: Cli, style: str) -> None:
        api.fail(
            "status", f"{style}/things", times=4, after=3, status=429, headers={"Retry-After": "0"}, body="slow down"
        )
        api.fail("status", f"{style}/things", times=2, after=4, status=503, body="<html>no</html>")
        api.fail("reset", f"{style}/things", times=2, after=5)
        api.fail("cut", f"{style}/things", times=2, after=6)
        api.fail("truncated_gzip", f"{style}/things", times=2, after=7)
        _job(project, api, _resource(style), retry={"max_wait": "0.01s"})
        _run(cli)
        assert _ids(project) == ALL
        assert all(fault.times == 0 for fault in api.faults)

    def test_an_error_in_an_answer_of_200_is_one_where_the_configuration_says_so(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        body = {"error": "quota of the day", "items": [], "total_pages": 0}
        api.fail("body", "page=7", times=100, body=body)
        said = [{"status_code": 200, "content": '"error"', "action": "raise"}]
        _job(project, api, _resource(endpoint={"response_actions": said}))
        assert "take this answer for an error: quota of the day" in _run(cli, code=1)

    def test_a_quota_in_headers_parks_what_would_pass_it(self, project: Project, api: RestDouble, cli: Cli) -> None:
        headers = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "19", "X-RateLimit-Reset": "7200"}
        body = {"items": [{"id": 1, "name": "n", "updated_at": _at(1)}], "total_pages": 30}
        api.fail("body", "page=", times=10**6, headers={**headers, "Content-Type": "application/json"}, body=body)
        _job(project, api, _resource(), limits={"quota": "80%", "connections": 2})
        said = _run(cli, code=3)
        assert "limits.quota leaves what is over 80% to others" in said
        assert len(api.seen) < 10

    def test_a_token_that_expires_in_mid_run_is_renewed(self, project: Project, api: RestDouble, cli: Cli) -> None:
        api.guard, api.lives, api.size = api.by_token, 20, 2
        auth = {
            "type": "oauth2_client_credentials",
            "access_token_url": f"{api.url}/oauth/token",
            "client_id": "me",
            "client_secret": "s3cret!",
        }
        _job(project, api, _resource(), client={"auth": auth}, limits={"connections": 3})
        said = _run(cli)
        assert _ids(project) == ALL
        assert api.given > 1
        assert "s3cret!" not in said

    @pytest.mark.parametrize("style", ["page", "offset", "link"])
    def test_rows_that_come_first_shift_the_pages(
        self, project: Project, api: RestDouble, cli: Cli, style: str
    ) -> None:
        new = iter(range(101, 104))

        def shift(_: str) -> None:
            if len(api.seen) % 4 == 3 and (number := next(new, None)):
                api.tables["things"].insert(0, {"id": number, "name": "new", "updated_at": _at(number)})

        api.before = shift
        _job(project, api, _resource(style))
        _run(cli)
        found = _ids(project)
        assert set(ALL) <= set(found)
        assert len(found) == len(set(found))

    def test_pages_that_come_twice_and_in_another_order(self, project: Project, api: RestDouble, cli: Cli) -> None:
        whole = list(api.tables["things"])

        def shuffle(_: str) -> None:
            # The sort is not stable: within each page and its neighbour the order is another one each time.
            turn = len(api.seen) % 2
            api.tables["things"] = [*whole[:20][:: -1 if turn else 1], *whole[20:], *whole[:5]]

        api.before = shuffle
        _job(project, api, _resource("offset", endpoint={"paginator": {"type": "offset", "limit": 20}}))
        _run(cli)
        assert _ids(project) == ALL

    @pytest.mark.parametrize(
        ("style", "paginator"),
        [
            ("page", {"type": "page_number", "page_param": "tag", "total_path": "total_pages"}),
            ("more", {"type": "page_number", "page_param": "tag", "total_path": None, "has_more_path": "has_more"}),
            ("cursor", {"type": "cursor", "cursor_path": "cursors.next", "cursor_param": "tag"}),
            ("page", "auto"),
        ],
        ids=["page_number", "has_more", "cursor", "auto"],
    )
    def test_a_paginator_that_does_not_advance_ends_in_words(
        self, project: Project, api: RestDouble, cli: Cli, style: str, paginator: Any
    ) -> None:
        _job(project, api, _resource(style, endpoint={"paginator": paginator}))
        assert "do not advance" in _run(cli, code=1)
        assert len(api.seen) < 60

    def test_a_reference_that_was_just_followed_ends_in_words_though_rows_change(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        def rotate(_: str) -> None:
            api.tables["things"] = [*api.tables["things"][1:], api.tables["things"][0]]

        api.before = rotate
        paginator = {"type": "cursor", "cursor_path": "cursors.next", "cursor_param": "tag"}
        _job(project, api, _resource("cursor", endpoint={"paginator": paginator}))
        assert "do not advance" in _run(cli, code=1)
        assert len(api.seen) < 20

    def test_links_in_a_circle_end_in_words(self, project: Project, api: RestDouble, cli: Cli) -> None:
        body = {"results": [{"id": 7}], "paging": {"next": f"{api.url}/link/things?after=50"}}
        api.fail("body", "after=60", times=10**6, body=body)
        _job(project, api, _resource("link"))
        _run(cli, code=1)

    def test_a_link_to_another_host_is_not_followed(self, project: Project, api: RestDouble, cli: Cli) -> None:
        api.fail("body", "after=50", body={"results": [], "paging": {"next": "http://evil.test/link/things"}}, times=99)
        _job(project, api, _resource("link"), client={"auth": {"token": "t0ken"}})
        assert "leads to another host (evil.test)" in _run(cli, code=1)

    def test_a_range_that_went_away_is_read_anew(self, project: Project, api: RestDouble, cli: Cli) -> None:
        api.fail("status", "page=9", status=404, body={"error": "invalid page"})
        _job(project, api, _resource(), limits={"connections": 2})
        assert "not there any more" in _run(cli)
        assert _ids(project) == ALL


class TestConcurrency:
    def test_children_come_in_their_parents_order_and_parents_are_asked_once_each(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        things = api.tables["things"]
        api.tables["things.parts"] = [
            {"id": 100 * one["id"] + n, "parent_id": one["id"]} for one in things for n in range(one["id"] % 25)
        ]
        api.tables["things.none"] = []
        child = {
            "name": "parts",
            "primary_key": "id",
            "endpoint": {"path": "page/things/{resources.things.id}/parts", "paginator": PAGE},
        }
        parent = {**_resource(), "selected": False}
        _job(project, api, parent, child)
        _run(cli)
        assert _ids(project, "parts") == sorted(one["id"] for one in api.tables["things.parts"])
        for one in things:
            pages = -(-(one["id"] % 25) // 10) or 1
            # What looks at the columns asks of the first ones too.
            asked = api.count(f"/page/things/{one['id']}/parts\\?")
            assert asked == pages or (one["id"] <= 3 and asked > pages), one["id"]
        order = [row[0] // 100 for row in project.query("select id from raw.parts")]
        assert len(set(order)) == len([one for one in things if one["id"] % 25])

    def test_a_child_that_fails_fails_its_table_alone(self, project: Project, api: RestDouble, cli: Cli) -> None:
        api.tables["things.parts"] = [{"id": one["id"], "parent_id": one["id"]} for one in api.tables["things"]]
        child = {"name": "parts", "endpoint": {"path": "page/things/{resources.things.id}/parts", "paginator": PAGE}}
        api.fail("status", "/things/77/parts", times=10**6, status=400, body={"message": "no parts for you"})
        _job(project, api, _resource(), child)
        assert "no parts for you" in _run(cli, code=1)
        assert _ids(project) == ALL

    def test_rows_that_come_at_the_end_meanwhile_are_read_too(
        self, project: Project, api: RestDouble, cli: Cli
    ) -> None:
        def grow(_: str) -> None:
            if len(api.seen) == 2:
                api.tables["things"] += [{"id": i, "name": "new", "updated_at": _at(i)} for i in range(101, 151)]

        api.before = grow
        _job(project, api, _resource())
        _run(cli)
        assert _ids(project) == list(range(1, 151))
