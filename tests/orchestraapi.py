"""A pipeline, a clock that stands still, and plain requests: what tests of the double of Orchestra share."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestra.testing import OrchestraDouble

LOAD = """
version: v1
name: Load orders
inputs:
  file: {type: string}
  rows: {type: number, optional: true}
  run_key: {type: string, default: ""}
pipeline:
  load:
    tasks:
      pull:
        integration: PYTHON
        integration_job: PYTHON_EXECUTE_SCRIPT
        name: Pull
        parameters:
          command: "python -m pull ${{ inputs.file }}"
          environment_variables: '{"KEY": "${{ inputs.run_key }}"}'
          set_outputs: true
        depends_on: []
  report:
    tasks:
      tell: {integration: HTTP, integration_job: HTTP_REQUEST, name: Tell, parameters: {}, depends_on: []}
    depends_on: [load]
"""


class Clock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def go(self, **more: float) -> None:
        self.moment += timedelta(**more)


def ask(
    double: OrchestraDouble, path: str, body: Any = None, *, key: str | None = "", method: str = "", **headers: str
) -> tuple[int, Any]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{double.url}{path}", data=data, method=method or None, headers=headers)
    if key is not None:
        request.add_header("Authorization", f"Bearer {key or double.key}")
    if data is not None and not request.has_header("Content-type"):
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text
