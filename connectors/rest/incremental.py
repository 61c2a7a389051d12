"""The rows of a window: dlt's rules of incremental loading over the runner's window of a cursor.

The start is inclusive and the end exclusive unless the configuration says otherwise
(https://dlthub.com/docs/general-usage/incremental/cursor).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from connectors.rest import config
from connectors.rest.cursors import Cursor, Style
from connectors.rest.jsonpaths import compiled
from runner.errors import SourceError
from runner.source import Window


class Span:
    """The rows of one resource that one run wants.

    Args:
        model: What the configuration says; None keeps every row.
        cursor: What the values are.
        window: What the run says; it comes before initial_value and end_value.
        style: How the server writes values of the cursor.
        ceiling: No mark reaches it; None where the rows alone tell the mark.
    """

    def __init__(
        self,
        resource: str,
        model: config.Incremental | None,
        cursor: Cursor,
        *,
        window: Window | None = None,
        style: Style | None = None,
        ceiling: str | None = None,
    ) -> None:
        self._resource = resource
        self._model = model
        self._cursor = cursor
        self._start: Any = None
        self._end: Any = None
        self._start_inclusive = self._end_inclusive = True
        # What requests are filled in with.
        self.start_value = model.initial_value if model else None
        self.end_value = model.end_value if model else None
        self.drops_empty = window is not None and window.before_end
        # What append has beyond the ceiling would come twice.
        appends = window is not None and not window.nulls and window.end is None
        self._ceiling = cursor.read(ceiling) if ceiling is not None else None
        self._drops_beyond = appends and ceiling is not None
        self._largest: Any = None
        self.closed = False
        if model is not None:
            self._bound(model, window, style)

    def _bound(self, model: config.Incremental, window: Window | None, style: Style | None) -> None:
        read = self._cursor.read
        if model.initial_value is not None:
            self._start, self._start_inclusive = read(model.initial_value), model.range_start == "closed"
        if model.end_value is not None:
            self._end, self._end_inclusive = read(model.end_value), model.range_end == "closed"
        if window is None:
            return
        ranged = window.before_end
        # With an end_value every run reads the whole range: merged, what it brings again is the same rows.
        stateless = model.end_value is not None and window.from_start and not ranged
        if window.start is not None and not stateless:
            start = read(window.start)
            # A lag does not reach behind the first value that was ever asked for.
            if ranged or not window.from_start or self._start is None or start > self._start:
                self._start, self._start_inclusive = start, window.from_start
                self.start_value = self._cursor.written(window.start, style)
        if window.end is not None:
            self._end, self._end_inclusive = read(window.end), not ranged
            self.end_value = self._cursor.written(window.end, style)

    @property
    def bounded(self) -> bool:
        """Whether rows in order would end before the pages do."""
        model = self._model
        if model is None or model.row_order is None:
            return False
        return (self._start if model.row_order == "desc" else self._end) is not None

    @property
    def mark(self) -> str | None:
        """The largest value so far that lies before the ceiling."""
        return None if self._largest is None else self._cursor.mark(self._largest)

    def params(self, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return parameters of the query with those of the window."""
        model, found = self._model, dict(params or {})
        if model is None:
            return found
        convert = _converter(model)
        if model.start_param:
            found[model.start_param] = convert(self.start_value) if convert else self.start_value
        if model.end_param:
            found[model.end_param] = convert(self.end_value) if convert else self.end_value
        return found

    def values(self) -> dict[str, Any]:
        """Return what expressions of the window stand for."""
        model = self._model
        if model is None:
            return {}
        values = {
            "initial_value": model.initial_value,
            "start_value": self.start_value,
            "last_value": self.start_value,
            "end_value": self.end_value,
        }
        convert = _converter(model)
        if convert is not None:
            values = {name: None if value is None else convert(value) for name, value in values.items()}
        named = {f"incremental.{name}": value for name, value in values.items()}
        return {**named, "incremental": SimpleNamespace(**values)}

    def kept(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of the window; the mark and ``closed`` follow them.

        A value of another type than the column's stays: whoever makes columns of the rows has to see it.

        Raises:
            SourceError: A row has no value of the cursor, and none may be missing.
        """
        model, self.closed = self._model, False
        if model is None:
            return rows
        path, column = compiled(model.cursor_path), compiled(model.cursor_path).column
        nested = path.field is None
        found = []
        for row in rows:
            value = path.first(row)
            if value is None:
                if self._keeps_empty(model):
                    found.append(row)
                continue
            if nested:
                row = {**row, column: value}
            try:
                known = self._cursor.read(value)
            except SourceError:
                found.append(row)
                continue
            if self._is_inside(known, model):
                found.append(row)
        return found

    def _keeps_empty(self, model: config.Incremental) -> bool:
        if model.on_cursor_value_missing == "raise":
            raise SourceError(
                f"A row of {self._resource} has no value of its cursor {model.cursor_path!r}.",
                guidance="Set on_cursor_value_missing of the incremental to include or exclude.",
            )
        return model.on_cursor_value_missing == "include" and not self.drops_empty

    def _is_inside(self, value: Any, model: config.Incremental) -> bool:
        try:
            if self._end is not None and (value > self._end or (value == self._end and not self._end_inclusive)):
                self.closed = self.closed or model.row_order == "asc"
                return False
            if self._start is not None and (
                value < self._start or (value == self._start and not self._start_inclusive)
            ):
                self.closed = self.closed or model.row_order == "desc"
                return False
            if self._ceiling is not None and value >= self._ceiling:
                return not self._drops_beyond
            if self._largest is None or value > self._largest:
                self._largest = value
        except TypeError as error:
            raise SourceError(
                f"The cursor {model.cursor_path!r} of {self._resource} has the value {value!r}, which cannot be "
                "compared with those before, or with its bounds."
            ) from error
        return True


def _converter(model: config.Incremental) -> Callable[..., Any] | None:
    return model.convert or model.transform
