"""Configurations in Python, as somebody has them who used dlt before: dlt's engine and ours run the same ones."""

from __future__ import annotations

import json
import os
from typing import Any


def _client(**more: Any) -> dict[str, Any]:
    return {
        "base_url": os.environ["API"],
        "paginator": {"type": "page_number", "base_page": 1, "total_path": "total_pages"},
        **more,
    }


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    row["title"] = row.pop("name").upper()
    return row


def _lines(row: dict[str, Any]) -> Any:
    for line in row["lines"]:
        yield {"order": row["id"], **line}


def _without_notes(response: Any, *args: Any, **kwargs: Any) -> None:
    data = response.json()
    for row in data["items"]:
        row.pop("note", None)
    response._content = json.dumps(data).encode()


def _forgive(response: Any) -> None:
    if response.status_code == 404:
        response.status_code = 200
        response._content = b'{"items": [], "total_pages": 0}'


def steps() -> dict[str, Any]:
    """Rows that are filtered, changed and taken apart; answers that are changed before anybody reads them."""
    return {
        "client": _client(),
        "resources": [
            {
                "name": "filtered",
                "endpoint": {"path": "page/things"},
                "processing_steps": [{"filter": lambda row: row["id"] % 3 == 0}, {"map": _renamed}],
            },
            {"name": "lines", "endpoint": {"path": "page/orders"}, "processing_steps": [{"yield_map": _lines}]},
            {
                "name": "noteless",
                "endpoint": {
                    "path": "page/things",
                    "response_actions": [{"status_code": 200, "action": _without_notes}],
                },
            },
            {"name": "forgiven", "endpoint": {"path": "page/nothing", "response_actions": [_forgive]}},
            {
                "name": "children_of_some",
                "endpoint": {
                    "path": "page/things/{resources.filtered.id}/parts",
                },
                "include_from_parent": ["title"],
                "processing_steps": [{"map": lambda row: {**row, "both": f"{row['_filtered_title']}/{row['id']}"}}],
            },
        ],
    }


def converted() -> dict[str, Any]:
    """Bounds of a cursor that the server wants in another form."""
    return {
        "client": _client(),
        "resources": [
            {
                "name": "epochs",
                "write_disposition": "append",
                "endpoint": {
                    "path": "page/things",
                    "incremental": {
                        "cursor_path": "updated_at",
                        "initial_value": "2024-01-02T00:00:00Z",
                        "start_param": "since",
                        "convert": lambda text: text and text[:10],
                    },
                },
            }
        ],
    }


PAGINATORS: dict[str, Any] = {
    "link": {"type": "json_link", "next_url_path": "paging.next"},
    "relative": {"type": "json_response", "next_url_path": "next"},
    "header": "header_link",
    "named": {"type": "header_cursor", "cursor_key": "X-Next", "cursor_param": "cursor"},
    "offset": {"type": "offset", "limit": 7},
    "page": {"type": "page_number", "base_page": 1, "total_path": "total_pages"},
    "numbers": {"type": "page_number", "page_param": "p", "total_path": "info.pages"},
    "more": {"type": "page_number", "total_path": None, "has_more_path": "has_more"},
    "empty": {"type": "page_number", "total_path": None, "maximum_page": 100},
    "cursor": {"type": "cursor", "cursor_path": "cursors.next"},
    "single": "single_page",
}
_SELECTORS = {"link": "results", "relative": "data.list", "header": "$", "named": "$[*]", "numbers": "rows",
              "cursor": "$.records", "single": "entries[*]"}  # fmt: skip


def matrix() -> dict[str, Any]:
    """Every paginator with a selector, a window and steps, for parents and their children; AUTH says who asks."""
    resources: list[Any] = []
    for style, paginator in PAGINATORS.items():
        pages = {"paginator": paginator, "data_selector": _SELECTORS.get(style, "items")}
        window = {"cursor_path": "updated_at", "initial_value": "2024-01-01T12:00:00Z", "start_param": "since"}
        parent, child = f"{style}_things", f"{style}_parts"
        resources += [
            {
                "name": parent,
                "primary_key": "id",
                "write_disposition": "merge",
                "endpoint": {"path": f"{style}/things", "incremental": window, **pages},
                "processing_steps": [{"filter": lambda row: row["id"] % 5}, {"map": _renamed}],
            },
            {
                "name": child,
                "endpoint": {"path": f"{style}/things/{{resources.{parent}.id}}/parts", **pages},
                "include_from_parent": ["title"],
                "processing_steps": [{"yield_map": lambda row: [row, {**row, "id": -row["id"]}]}],
            },
        ]
    auth = json.loads(os.environ["AUTH"])
    return {"client": {"base_url": os.environ["API"], "auth": auth}, "resources": resources}


CONFIGS = {"matrix": matrix, "steps": steps, "converted": converted}
