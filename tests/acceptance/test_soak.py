"""Twenty kills of the soak, ten into each destination; `make soak` does more."""

from pathlib import Path

import pytest

from tests.acceptance.soak import soak


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("destination", "seed"), [("duckdb", 11), ("postgres", 12)])
def test_everything_is_killed_and_nothing_is_lost_or_twice(tmp_path: Path, destination: str, seed: int) -> None:
    one, wrong = soak(tmp_path, destination, seed, kills=10, check_every=5)
    assert wrong == [], f"seed {seed}, {dict(one.done)}"
    assert one.done["kills"] >= 10
