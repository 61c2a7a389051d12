"""Conditions over an event's values: an expression, or JSONPath that must find something."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from runner.errors import UsageError

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "int": int,
    "float": float,
    "str": str,
    "lower": lambda text: str(text).lower(),
    "matches": lambda text, pattern: re.search(pattern, str(text)) is not None,
    "startswith": lambda text, start: str(text).startswith(start),
    "endswith": lambda text, end: str(text).endswith(end),
}


class Condition:
    """A condition, parsed.

    ``size > 0 and endswith(name, '.csv')``: names are the event's values, with ``and``, ``or``, ``not``, comparisons,
    ``in``, arithmetic, ``row['id']`` and a few functions. ``$.orders[?(@.status == 'ready')]``: JSONPath that must find
    something other than null and false.

    Raises:
        UsageError: It cannot be parsed.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._path: Any = None
        if text.lstrip().startswith("$"):
            from jsonpath_ng.ext.parser import parse

            try:
                self._path = parse(text)
            except Exception as error:  # the parser raises bare exceptions
                raise UsageError(f"The condition {text!r} is no JSONPath: {error}.") from None
            return
        from simpleeval import EvalWithCompoundTypes

        self._evaluator = EvalWithCompoundTypes(functions=_FUNCTIONS)
        try:
            self._parsed = self._evaluator.parse(text)
        except Exception as error:
            raise UsageError(f"The condition {text!r} cannot be read: {error}.") from None

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Tell whether it holds.

        Raises:
            UsageError: It names a value that there is not, or compares what cannot be compared.
        """
        if self._path is not None:
            return any(match.value is not None and match.value is not False for match in self._path.find(dict(values)))
        self._evaluator.names = dict(values)
        try:
            return bool(self._evaluator.eval(self.text, previously_parsed=self._parsed))
        except Exception as error:
            from simpleeval import NameNotDefined

            known = f" Known are {', '.join(sorted(values))}." if isinstance(error, NameNotDefined) else ""
            raise UsageError(f"The condition {self.text!r}: {str(error).rstrip('.')}.{known}") from None
