"""Where the next page is, by every paginator; what is detected where none is named; ranges and their edges."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import CIMultiDict
from pydantic import TypeAdapter

from connectors.rest.detect import find_paginator, find_rows
from connectors.rest.edges import Edge
from connectors.rest.options import Paginator as PaginatorOption
from connectors.rest.options import remade
from connectors.rest.paginators import Answer, Counted, make_paginator
from connectors.rest.ranges import _split
from connectors.rest.request import Request, join
from runner.errors import RequestRefused

_ADAPTER: TypeAdapter[Any] = TypeAdapter(PaginatorOption)
ASKED = Request("GET", "https://api.test/v1/posts", {"size": 5}, json=None)


def _model(given: Any) -> Any:
    return _ADAPTER.validate_python(given)


def _answer(data: Any, **headers: str) -> Answer:
    return Answer(data, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}))


@pytest.mark.parametrize(
    ("given", "state", "answer", "rows", "following"),
    [
        ("single_page", None, _answer({"next": "x"}), 3, None),
        ("json_link", None, _answer({"next": "https://api.test/v1/posts?p=2"}), 3, {"link": "https://api.test/v1/posts?p=2"}),
        ("json_link", None, _answer({"next": None}), 3, None),
        ("json_link", None, _answer({"next": ""}), 3, None),
        ({"type": "json_response", "next_url_path": "a.b"}, {"link": "/v1/x?p=1"}, _answer({"a": {"b": "?p=2"}}), 1, {"link": "/v1/x?p=2"}),
        ("header_link", None, _answer([], Link='<https://a/?p=0>; rel="prev", <https://a/?p=2,3>; rel=next'), 1, {"link": "https://a/?p=2,3"}),
        ({"type": "header_link", "links_next_key": "more"}, None, _answer([], Link='<https://a/>; rel="next"'), 1, None),
        ("header_cursor", None, _answer([], next="abc"), 1, {"cursor": "abc"}),
        ("header_cursor", {"cursor": "abc"}, _answer([]), 1, None),
        ("cursor", None, _answer({"cursors": {"next": 7}}), 0, {"cursor": 7}),
        ("cursor", {"cursor": 7}, _answer({"cursors": {"next": ""}}), 3, None),
        ({"type": "cursor", "stop_after_empty_page": True}, None, _answer({"cursors": {"next": 7}}), 0, None),
        ({"type": "cursor", "has_more_path": "more"}, None, _answer({"cursors": {"next": 7}, "more": "false"}), 3, None),
        ({"type": "offset", "limit": 10}, {"at": 0}, _answer({"total": 11}), 10, {"at": 10}),
        ({"type": "offset", "limit": 10}, {"at": 10}, _answer({"total": "11"}), 1, None),
        ({"type": "offset", "limit": 10, "total_path": None}, {"at": 10}, _answer({}), 0, None),
        ({"type": "offset", "limit": 10, "total_path": None}, {"at": 10}, _answer({}), 1, {"at": 20}),
        ({"type": "offset", "limit": 10, "total_path": None, "maximum_offset": 20}, {"at": 10}, _answer({}), 9, None),
        ("page_number", {"at": 0}, _answer({"total": 2}), 3, {"at": 1}),
        ("page_number", {"at": 1}, _answer({"total": 2}), 3, None),
        ({"type": "page_number", "base_page": 1}, {"at": 1}, _answer({"total": 2}), 3, {"at": 2}),
        ({"type": "page_number", "base_page": 1}, {"at": 2}, _answer({"total": 2}), 3, None),
        ({"type": "page_number", "base_page": 1, "page": 5}, None, _answer({"total": 9}), 3, {"at": 6}),
        ({"type": "page_number", "total_path": None, "has_more_path": "m"}, {"at": 0}, _answer({"m": True}), 3, {"at": 1}),
        ({"type": "page_number", "total_path": None, "has_more_path": "m"}, {"at": 0}, _answer({"m": "no"}), 3, None),
        (
            {"type": "page_number", "total_path": None, "maximum_page": 5, "stop_after_empty_page": False},
            {"at": 1}, _answer({}), 0, {"at": 2},
        ),
    ],
)  # fmt: skip
def test_the_next_page(given: Any, state: Any, answer: Answer, rows: int, following: Any) -> None:
    assert make_paginator(_model(given)).next(state, answer, rows) == following


@pytest.mark.parametrize(
    ("given", "data", "words"),
    [
        ("page_number", {"count": 3}, "a total at 'total'"),
        ("page_number", {"total": "many"}, "'many' there"),
        ({"type": "page_number", "total_path": None, "has_more_path": "m"}, {"m": 1}, "true or false at 'm'"),
        ({"type": "cursor", "has_more_path": "m"}, {"cursors": {"next": 1}}, "true or false at 'm'"),
        ("json_link", {"next": 12}, "is 12, which is none"),
    ],
)
def test_what_is_missing_is_told(given: Any, data: Any, words: str) -> None:
    with pytest.raises(RequestRefused, match=words):
        make_paginator(_model(given)).next(None, _answer(data), 3)


@pytest.mark.parametrize(
    ("given", "state", "expected"),
    [
        ("json_link", {"link": "?page=2"}, Request("GET", "https://api.test/v1/posts?page=2")),
        ("json_link", {"link": "/v2/x"}, Request("GET", "https://api.test/v2/x")),
        ("cursor", {"cursor": 7}, Request("GET", ASKED.url, {"size": 5, "cursor": 7})),
        ({"type": "cursor", "cursor_body_path": "a.b"}, {"cursor": 7}, Request("GET", ASKED.url, {"size": 5}, json={"a": {"b": 7}})),
        ({"type": "offset", "limit": 9}, {"at": 18}, Request("GET", ASKED.url, {"size": 5, "limit": 9, "offset": 18})),
        (
            {"type": "offset", "limit": 9, "offset_body_path": "p.o", "limit_body_path": "p.l"}, {"at": 18},
            Request("GET", ASKED.url, {"size": 5}, json={"p": {"l": 9, "o": 18}}),
        ),
        ({"type": "page_number", "page_param": "p"}, {"at": 3}, Request("GET", ASKED.url, {"size": 5, "p": 3})),
    ],
)  # fmt: skip
def test_the_request_for_a_page(given: Any, state: Any, expected: Request) -> None:
    made = make_paginator(_model(given)).apply(ASKED, state)
    assert (made.url, made.params, made.json) == (expected.url, expected.params, expected.json)


def test_a_body_is_not_shared_by_pages() -> None:
    asked = Request("POST", "https://api.test", json={"p": {"q": 1}})
    make_paginator(_model({"type": "cursor", "cursor_body_path": "p.c"})).apply(asked, {"cursor": 1})
    assert asked.json == {"p": {"q": 1}}


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ([1], "$"),
        ({"a": 1}, "$"),
        ({"tags": [1], "meta": {"items": [2]}}, "meta.items"),
        ({"tags": [1], "more": {"others": [2]}}, "tags"),
        ({"a": {"b": {"c": [1], "d": {"e": [2]}}}}, "a.b.c"),
        ({"a": {"b": {"c": {"data": [1]}}}}, "$"),
        ({"odd name": [1]}, '"odd name"'),
    ],
)
def test_where_rows_are(data: Any, path: str) -> None:
    assert find_rows(data) == path


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            _answer({"next": "https://a"}, Link='<https://a>; rel="next"'),
            {"type": "header_link", "links_next_key": "next"},
        ),
        (_answer({"a": {"Next_Page": "/b?c"}}), {"type": "json_link", "next_url_path": "a.Next_Page"}),
        (
            _answer({"links": {"next": {"href": "https://b"}}}),
            {"type": "json_link", "next_url_path": "links.next.href"},
        ),
        (_answer({"info": {"Pages": "7"}, "next": 3}), {"type": "page_number", "total_path": "info.Pages"}),
        (_answer({"info": {"pages": "some"}, "next": 3}), {"type": "cursor", "cursor_path": "next"}),
        (_answer({"paging": {"nextCursor": "x"}}), {"type": "cursor", "cursor_path": "paging.nextCursor"}),
        (_answer({"next": None}), {"type": "single_page"}),
        (_answer([1, 2]), {"type": "single_page"}),
    ],
)
def test_what_is_detected(answer: Answer, expected: dict[str, Any]) -> None:
    found = find_paginator(answer)
    dumped = found.model_dump()
    assert {name: dumped[name] for name in expected} == expected
    assert remade(dumped) == found


@pytest.mark.parametrize(
    ("pages", "width", "sizes"), [(1, 8, [1]), (3, 8, [3]), (10, 8, [3, 3, 3, 1]), (400, 8, [20] * 20), (50_000, 8, [50] * 1000)]
)  # fmt: skip
def test_ranges_cover_all_pages_and_the_last_has_no_end(pages: int, width: int, sizes: list[int]) -> None:
    pager = Counted(_model({"type": "page_number", "base_page": 1}))
    found = _split(pager, pages + 1, {}, width)
    begins = [one.get("at", {"at": 1})["at"] for one in found]
    ends = [one.get("to") for one in found]
    assert ends == [*begins[1:], None]
    assert [end - begin for begin, end in zip(begins, [*begins[1:], pages + 1], strict=True)] == sizes


class TestEdge:
    PAGER = Counted(_model({"type": "offset", "limit": 10}))

    def test_rows_that_come_in_front_move_it(self) -> None:
        edge = Edge(self.PAGER, {"to": 100, "total": 500})
        assert edge.reached({"at": 100})
        assert not edge.moves(_answer({"total": 500}))
        assert edge.moves(_answer({"total": 511}))
        assert (edge.reached({"at": 110}), edge.reached({"at": 120})) == (False, True)
        assert not edge.moves(_answer({"total": 511}))

    def test_a_page_that_begins_as_the_one_before_ends_moves_it_also_after_a_pause(self) -> None:
        edge = Edge(self.PAGER, {"to": 100})
        edge.see([{"id": 1}, {"id": 2}])
        edge.see([{"id": 2}, {"id": 3}])
        again = Edge(self.PAGER, {**edge.record()})
        pager = Counted(_model({"type": "offset", "limit": 10, "total_path": None}))
        assert Edge(pager, again.record()).moves(_answer({}))
        assert not Edge(pager, {"to": 100}).moves(_answer({}))

    def test_without_an_end_there_is_none(self) -> None:
        assert not Edge(self.PAGER, {}).reached({"at": 10**9})


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("https://a/v1", "posts", "https://a/v1/posts"),
        ("https://a/v1/", "/posts", "https://a/v1/posts"),
        ("https://a/v1", "", "https://a/v1"),
        ("https://a/v1", "https://b/x y", "https://b/x%20y"),
        ("https://a", "things:search/ä?x=%20", "https://a/things:search/%C3%A4?x=%20"),
    ],
)
def test_addresses(base: str, path: str, expected: str) -> None:
    assert join(base, path) == expected


def test_queries_and_forms() -> None:
    made = Request(
        "POST", "u", {"a": [1, "x y"], "b": None, "c": True}, data={"k": ["1", 2]}, headers={"N": 3, "O": None}
    )
    assert made.query == [("a", "1"), ("a", "x y"), ("c", "True")]
    assert made.body == b"k=1&k=2"
    assert made.sent_headers == {"N": "3", "Content-Type": "application/x-www-form-urlencoded"}
