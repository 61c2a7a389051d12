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


CONFIGS = {"steps": steps, "converted": converted}
