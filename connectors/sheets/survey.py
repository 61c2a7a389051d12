"""Looks at every cell once, so that a column has the type of all of its values.

Many sheets come in one answer, a long one in several.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import anyio

from connectors.http import Http
from connectors.sheets.cells import Cell
from connectors.sheets.infer import Shape
from connectors.sheets.layout import Place, fill
from connectors.sheets.questions import ask_cells

# Of an address, in characters: what servers and proxies on the way take.
LONGEST = 1800
# Below what was typed most sheets have many empty rows, which cost nothing but requests.
_LARGEST = 8
# Of several sheets that are asked for together most have empty rows, too.
_TOGETHER = 3


@dataclass
class Progress:
    """How far a table was looked at.

    Attributes:
        row: The next row.
        factor: How many times more rows than usual the next look takes: the last ones were empty.
        header_row: Where the header is, once it was seen.
    """

    place: Place
    shape: Shape = field(default_factory=Shape)
    row: int = 0
    factor: int = 1
    header_row: int | None = None

    def __post_init__(self) -> None:
        place = self.place
        self.row = place.header - 1 if isinstance(place.header, int) else place.area.top
        self.row = max(self.row, place.area.top)

    def window(self, cells: int) -> tuple[int, int]:
        """Return the rows to look at next."""
        # Columns that were empty so far may be empty further down.
        width = max(self.shape.width, self.place.area.width // (4 if self.shape.filled else 1), 1)
        height = max(1, cells * self.factor // width)
        return self.row, self.place.cut(self.row + height)

    def take(self, rows: list[list[Cell]], bottom: int) -> None:
        """Take what was seen into account."""
        left = self.place.area.left
        for number, row in enumerate(fill(rows, self.place.merges, self.row, left), self.row):
            if self.place.given is None and self.header_row is None:
                # The first row that is not empty, unless the job file says which.
                if isinstance(self.place.header, int) or any(cell is not None for cell in row):
                    self.header_row, self.shape.header = number, row
                continue
            self.shape.see(number, row)
        self.factor = min(_LARGEST, self.factor * 2) if not rows else 1
        self.row = bottom

    @property
    def done(self) -> bool:
        """Whether all rows were seen."""
        return self.row >= self.place.area.bottom


async def survey(http: Http, places: Sequence[Place], cells: int) -> list[Progress]:
    """Look at tables; each request asks for about so many cells, of one spreadsheet."""
    all_of_them = [Progress(place) for place in places]
    for spreadsheet in dict.fromkeys(place.spreadsheet for place in places):
        waiting = deque(one for one in all_of_them if one.place.spreadsheet == spreadsheet and not one.done)
        while waiting:
            chosen = _chosen(waiting, cells)
            windows = {one.place.sheet: one.window(cells) for one in chosen}
            ranges = {one.place.sheet: one.place.area.rows(*windows[one.place.sheet]) for one in chosen}
            found = await ask_cells(http, spreadsheet, ranges)
            for one in reversed(chosen):
                sheet = one.place.sheet
                await anyio.to_thread.run_sync(one.take, found[sheet], windows[sheet][1])
                if not one.done:
                    waiting.appendleft(one)
    return all_of_them


def cost(text: str) -> int:
    """Return how many characters a range adds to an address."""
    return len(quote(text, safe="")) + len("&ranges=")


def _chosen(waiting: deque[Progress], cells: int) -> list[Progress]:
    """Take from the queue what fits into one request: each sheet once."""
    chosen: list[Progress] = []
    put_back: list[Progress] = []
    size = length = 0
    while waiting:
        one = waiting.popleft()
        top, bottom = one.window(cells)
        size += min(cells, (bottom - top) * one.place.area.width)
        length += cost(one.place.area.rows(top, bottom))
        if chosen and (size > _TOGETHER * cells or length > LONGEST):
            put_back.append(one)
            break
        if any(one.place.sheet == other.place.sheet for other in chosen):
            put_back.append(one)
            continue
        chosen.append(one)
    waiting.extendleft(reversed(put_back))
    return chosen
