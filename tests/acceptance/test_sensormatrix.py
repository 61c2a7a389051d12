"""A sample of the crash matrix of sensors; `make matrix` runs all of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensors.crashpoints import POINTS
from tests.acceptance.sensormatrix import ACTIONS, Cell, Matrix, check, sample
from tests.acceptance.sensortargets import Orchestra, Target

_ROOT = Path(__file__).parents[2]
# What no code of ours passes: their targets and children are killed, or kill.
_ELSEWHERE = {"target-acted", "child-killed"}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    with Target() as target, Orchestra() as orchestra:
        yield Matrix(target, orchestra, tmp_path_factory.mktemp("matrix"))


@pytest.mark.parametrize("cell", sample(), ids=lambda cell: f"{cell.point}-{cell.action}")
def test_killed_there_and_started_again(matrix: Matrix, cell: Cell) -> None:
    assert matrix.run(cell) in ACTIONS[cell.action]


def test_the_committed_table_is_of_this_code_and_has_no_red_cell() -> None:
    assert check((_ROOT / "sensors" / "SEMANTICS.md").read_text("utf-8")) == []


def test_every_point_is_passed_somewhere_and_described() -> None:
    passed = {
        node.args[0].value
        for path in (_ROOT / "sensors").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "crash_point"
        if isinstance(node.args[0], ast.Constant)
    }
    assert passed | _ELSEWHERE == set(POINTS)
