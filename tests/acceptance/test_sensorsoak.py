"""Four kills of the soak of sensors; `make soak` does more."""

from pathlib import Path

from tests.acceptance.sensorsoak import Soak


def test_sensors_are_killed_and_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    one = Soak(tmp_path, seed=11, kills=4)
    assert one.run() == [], f"seed {one.seed}, {dict(one.done)}"
    assert one.done["kills"] >= 4
