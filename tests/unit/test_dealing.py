"""What shares something that takes long to make goes to one worker."""

from pathlib import Path

import pytest

from tests.acceptance.matrix import sample
from tests.dealing import group, rank

_TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("module", ["test_bigquery", "test_snowflake", "test_sql_snowflake", "test_fidelity"])
def test_a_module_stays_together(module: str) -> None:
    path = f"tests/integration/{module}.py"
    assert (_TESTS.parent / path).is_file()
    assert (
        group(f"{path}::test_one")
        == group(f"{path}::test_two[a@b]")
        == module.removeprefix("test_").removeprefix("sql_")
    )


def test_the_cells_of_a_destination_stay_together_with_its_own_tests() -> None:
    cells = [(one.destination, f"{one.point}-{one.mode}-{one.destination}") for one in sample()]
    groups = {
        to: {group(f"tests/acceptance/test_matrix.py::test_killed[{cell}]") for a, cell in cells if a == to}
        for to, _ in cells
    }
    assert all(len(found) == 1 for found in groups.values())
    assert groups["bigquery"] == {"bigquery"}
    assert len({min(found) for found in groups.values()}) == len(groups)


def test_the_long_ones_begin_first() -> None:
    order = [
        "acceptance/test_sensorsoak.py",
        "acceptance/test_edges.py",
        "integration/test_shop.py",
        "unit/test_plan.py",
    ]
    ranks = [rank(f"tests/{path}::test_it") for path in order]
    assert ranks == sorted(set(ranks))
    assert group("tests/unit/test_bigquery.py::test_it") == "tests/unit/test_bigquery.py::test_it"
