"""Configurations: what is refused, and in which words; what resources become of their defaults and parents."""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import pytest

from connectors.rest.config import RestConfig, read_config
from connectors.rest.resources import Resource, resources
from connectors.rest.source import RestSource
from runner.errors import JobFileError
from runner.schemas import json_schemas

BASE: dict[str, Any] = {"client": {"base_url": "https://api.test"}, "resources": ["posts"]}


def _made(*given: Any, defaults: Any = None, client: Any = None) -> dict[str, Resource]:
    whole = {"client": {"base_url": "https://api.test", **(client or {})}, "resources": list(given)}
    return resources(read_config({**whole, **({"resource_defaults": defaults} if defaults else {})}))


def _endpoint(**endpoint: Any) -> dict[str, Any]:
    return {"name": "posts", "endpoint": endpoint}


class BearerTokenAuth:
    """As an object of dlt."""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({**BASE, "clientt": {}}, "source: unknown key 'clientt'. Did you mean 'client'?"),
        ({"client": {"base_urll": "x"}, "resources": ["a"]}, "source.client: unknown key 'base_urll'. Did you mean 'base_url'?"),
        ({"client": {}, "resources": ["a"]}, "source.client.base_url: this key is needed."),
        ({"client": {"base_url": "https://a"}}, "source.resources: this key is needed."),
        ({**BASE, "resources": []}, "source.resources: list should have at least 1 item"),
        ({**BASE, "resources": [{"endpoint": "x"}]}, "source.resources.0.name: this key is needed."),
        ({**BASE, "resources": [_endpoint(pathh="x")]}, "source.resources.0.endpoint: unknown key 'pathh'. Did you mean 'path'?"),
        (
            {**BASE, "resources": [_endpoint(paginator={"type": "offset", "limt": 3})]},
            "source.resources.0.endpoint.paginator: unknown key 'limt'. Did you mean 'limit'?",
        ),
        ({**BASE, "resources": [_endpoint(paginator="offset")]}, "paginator.limit: this key is needed"),
        ({**BASE, "resources": [_endpoint(paginator="page_numbr")]}, "there is no paginator of type 'page_numbr'. Did you mean 'page_number'?"),
        (
            {**BASE, "resources": [_endpoint(paginator={"type": "page_number", "page_param": "p", "page_body_path": "p"})]},
            "page_param or page_body_path, not both",
        ),
        (
            {**BASE, "resources": [_endpoint(paginator={"type": "page_number", "total_path": None, "stop_after_empty_page": False})]},
            "nothing says where it ends",
        ),
        ({**BASE, "client": {"base_url": "https://a", "auth": {"type": "digest"}}}, "there is no auth of type 'digest'. Known:"),
        ({**BASE, "client": {"base_url": "https://a", "auth": "bearer"}}, "source.client.auth.token: this key is needed."),
        ({**BASE, "client": {"base_url": "https://a", "auth": {"tokn": "x"}}}, "unknown key 'tokn'. Did you mean 'token'?"),
        ({**BASE, "client": {"base_url": "https://a", "auth": BearerTokenAuth()}}, "write it as a dictionary"),
        ({**BASE, "client": {"base_url": "https://a", "session": object()}}, "session: an object of requests"),
        ({**BASE, "resources": [BearerTokenAuth()]}, "a resource is an object"),
        ({**BASE, "resources": [{"name": "a", "schema_contract": "freeze"}]}, "a hint to dlt's own loader"),
        ({**BASE, "resources": [{"name": "a", "table_name": lambda row: "x"}]}, "rows of one resource go to one table"),
        ({**BASE, "resources": [{"name": "a", "columns": {"x": {"data_typ": "text"}}}]}, "Did you mean 'data_type'?"),
        ({**BASE, "resources": [{"name": "a", "columns": {"x": {"data_type": "bigit"}}}]}, "Did you mean 'bigint'?"),
        ({**BASE, "resources": [{"name": "a", "write_disposition": {"disposition": "merge", "strategy": "scd2"}}]}, "mode: snapshot"),
        ({**BASE, "resources": [_endpoint(method="DELETE")]}, "GET or POST"),
        ({**BASE, "resources": [_endpoint(data_selector="a[")]}, "is no JSONPath"),
        ({**BASE, "resources": [_endpoint(incremental={"cursor_path": "x", "last_value_func": "min"})]}, "only max"),
        ({**BASE, "resources": [{"name": "a", "processing_steps": [{"filter": "nowhere:it"}]}]}, "'nowhere' cannot be imported"),
        ({**BASE, "resources": [{"name": "a", "processing_steps": [{"filter": "json:dumbs"}]}]}, "has no 'dumbs'"),
        ({**BASE, "config": "json:dumps"}, "client and config: one of them"),
        ({"config": "json:JSONDecoder.decode.__doc__"}, "not a dictionary or a function"),
        ({"config": "nosuchmodule"}, "is no reference"),
    ],
)  # fmt: skip
def test_what_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(JobFileError) as caught:
        read_config(given)
    assert words in caught.value.message, caught.value.message


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ({"path": "posts/{id}"}, "{id} stands for nothing"),
        ({"path": "posts", "params": {"a": "{nothing.x}"}}, "{nothing.x} stands for nothing"),
        ({"path": "posts", "params": {"a": "{incremental.start_value}"}}, "has to begin with resources"),
        ({"path": "posts", "params": {"a": {"type": "resolved"}}}, "a dictionary is of type resolve or incremental"),
        ({"path": "posts", "params": {"a": {"type": "resolve", "resource": "b", "field": "c"}}}, "not in the path"),
        ({"path": "x/{resources.users.id}"}, "there is no resource 'users'. Did you mean 'user'?"),
        ({"path": "x/{resources.user.id}/{resources.posts.id}"}, "several parents: posts, user"),
        ({"path": "x/{resources.user}/"}, "it has to be resources.PARENT.FIELD"),
        ({"path": "x/{resources.posts.id}"}, "it is its own parent"),
        ({"path": "x", "json": {"a": 1}, "data": "b"}, "json or data, not both"),
        (
            {"params": {"a": {"type": "incremental", "cursor_path": "x", "end_value": 3}}},
            "an end needs the key incremental",
        ),
    ],
)
def test_what_refers_to_nothing(endpoint: dict[str, Any], words: str) -> None:
    with pytest.raises(JobFileError) as caught:
        _made(_endpoint(**endpoint), "user")
    assert words in caught.value.message, caught.value.message


def test_two_resources_of_one_name_or_table_are_refused() -> None:
    with pytest.raises(JobFileError, match="'posts' stands twice"):
        _made("posts", "posts")
    with pytest.raises(JobFileError, match="would both fill the table 'posts'"):
        _made("posts", {"name": "others", "table_name": "posts"})


def test_defaults_lie_under_a_resource_and_only_params_json_and_columns_are_merged() -> None:
    found = _made(
        {
            "name": "posts",
            "endpoint": {"params": {"a": 2, "b": 3}, "headers": {"X-B": "2"}},
            "columns": {"id": {"nullable": False}},
        },
        "users",
        defaults={
            "primary_key": "id",
            "write_disposition": "merge",
            "columns": {"id": {"data_type": "bigint"}},
            "endpoint": {"params": {"a": 1, "c": 4}, "headers": {"X-A": "1"}, "paginator": "header_link"},
        },
    )
    posts, users = found["posts"], found["users"]
    assert posts.params == {"a": 2, "b": 3, "c": 4}
    assert posts.headers == {"X-B": "2"}
    assert posts.columns == {"id": {"data_type": "bigint", "nullable": False}}
    assert (posts.key, posts.disposition, posts.path) == (("id",), "merge", "posts")
    assert (users.params, users.headers) == ({"a": 1, "c": 4}, {"X-A": "1"})
    assert users.paginator is not None
    assert users.paginator.type == "header_link"


def test_the_last_part_of_a_path_that_is_an_expression_means_one_object() -> None:
    found = _made(
        "a", {"name": "one", "endpoint": "a/{resources.a.id}"}, {"name": "many", "endpoint": "a/{resources.a.id}/b"}
    )
    assert (found["one"].selector, found["one"].paginator and found["one"].paginator.type) == ("$", "single_page")
    assert (found["many"].selector, found["many"].paginator) == (None, None)


def test_auto_of_an_endpoint_means_that_of_the_client() -> None:
    found = _made(_endpoint(paginator="auto"), client={"paginator": "header_link"})
    assert found["posts"].paginator is not None
    assert found["posts"].paginator.type == "header_link"


def test_an_endpoint_may_have_no_auth_where_the_client_has_one() -> None:
    found = _made(_endpoint(auth=None), "users", client={"auth": {"token": "x"}})
    assert found["posts"].auth is None
    assert found["users"].auth is not None


def test_objects_of_dlt_for_incremental_parameters_are_what_they_stand_for() -> None:
    class Incremental:
        cursor_path, initial_value, row_order, lag = "at", 5, "asc", None

    one = _made(_endpoint(params={"since": Incremental()}))["posts"].incremental
    assert one is not None
    assert (one.cursor_path, one.initial_value, one.start_param, one.row_order) == ("at", 5, "since", "asc")


def test_a_dictionary_in_python_may_have_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("somewhere_else")
    module.config = lambda: {  # type: ignore[attr-defined]
        **BASE,
        "resources": [{"name": "a", "processing_steps": [{"map": str}], "endpoint": {"response_actions": [print]}}],
    }
    monkeypatch.setitem(sys.modules, "somewhere_else", module)
    found = RestSource({"config": "somewhere_else:config", "timeout": "1m"})
    assert found.resources["a"].steps[0].map is str
    assert found.resources["a"].actions[0].action == [print]
    assert found.config.timeout.total_seconds() == 60


def test_secrets_are_not_in_what_is_printed_or_refused() -> None:
    auth = {
        "type": "oauth2_client_credentials",
        "client_id": "me",
        "client_secret": "hush-hush",
        "access_token_url": "u",
    }
    found = read_config({**BASE, "client": {"base_url": "https://a", "auth": auth}})
    assert "hush-hush" not in repr(found)
    with pytest.raises(JobFileError) as caught:
        read_config({**BASE, "client": {"base_url": "https://a", "auth": {**auth, "client_secrets": "hush-hush"}}})
    assert "hush-hush" not in str(caught.value)


def test_editors_know_its_keys() -> None:
    schema = json.dumps(json_schemas()["job.schema.json"])
    assert RestConfig.__doc__
    for key in ("data_selector", "include_from_parent", "cursor_body_path", "client_secret", "on_cursor_value_missing"):
        assert f'"{key}"' in schema
