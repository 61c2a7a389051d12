"""A pairwise sample of the crash matrix; `make matrix` runs all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.testing.server import PostgresServer
from tests.acceptance.matrix import Cell, Matrix, check, sample

_ROOT = Path(__file__).parents[2]


pytest_plugins = ("tests.servers",)
# The driver's own, of its next version.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:snowflake"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def matrix(server: PostgresServer, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    def emulator(destination: str) -> Any:
        return request.getfixturevalue(f"{destination}_server")

    return Matrix(server, emulator, tmp_path_factory.mktemp("matrix"))


@pytest.mark.parametrize("cell", sample(), ids=lambda cell: f"{cell.point}-{cell.mode}-{cell.destination}")
def test_killed_there_and_run_again(matrix: Matrix, cell: Cell) -> None:
    assert matrix.run(cell) in ("exact", "refused")


def test_the_committed_table_is_of_this_code_and_has_no_red_cell() -> None:
    assert check((_ROOT / "runner" / "SEMANTICS.md").read_text("utf-8")) == []
