"""Where a range of pages ends while rows come in front of it: what they push over the edge is read too.

Ranges are read at once: the one behind an edge may have begun before the one in front of it ends. Rows that come in
between push others over the edge, to a page that was read already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from connectors.rest.options import Offset
from connectors.rest.paginators import Answer, Counted, Paginator


class Edge:
    """The end of a range.

    Args:
        bounds: Those of the range; without ``to`` it has no end of its own.
    """

    def __init__(self, pager: Paginator | None, bounds: Mapping[str, Any]) -> None:
        self._pager = pager if isinstance(pager, Counted) else None
        self._to: int | None = bounds.get("to")
        self._total: int | None = bounds.get("total")
        self._pushed = int(bounds.get("pushed", 0))
        self._before: list[Any] = []

    def record(self) -> dict[str, Any]:
        """Return it as bounds."""
        found = {"to": self._to, "total": self._total, "pushed": self._pushed or None}
        return {name: value for name, value in found.items() if value is not None}

    def see(self, items: list[Any]) -> None:
        """Take a page into account: one that begins with a row of the page before it was pushed."""
        if self._to is None:
            return
        if items and items[0] in self._before:
            self._pushed += 1
        # Steps may change rows where they are.
        self._before = [dict(item) if isinstance(item, dict) else item for item in items]

    def reached(self, following: Mapping[str, Any]) -> bool:
        """Tell whether the next page is beyond the end."""
        return self._to is not None and following.get("at", 0) >= self._to

    def moves(self, answer: Answer, *, changed: bool = False) -> bool:
        """Tell whether the end has moved meanwhile, and move it.

        Args:
            changed: Whether the first page is another one than when the ranges were planned.
        """
        assert self._to is not None
        if self._pager is None:
            return False
        pages = max(self._pushed, int(changed))
        total = self._pager.total(answer)
        if total is not None and self._total is not None:
            grown = total - self._total
            pages = max(pages, math.ceil(grown / self._pager.step) if isinstance(self._pager.model, Offset) else grown)
            self._total = max(total, self._total)
        self._pushed = 0
        self._to += max(0, pages) * self._pager.step
        return pages > 0
