"""Every moment of a run belongs to the stages that are at work in it."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.profile import STAGES, Profile, profiled, stage


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_moment_is_shared_between_the_stages_at_work(clock: Clock) -> None:
    profile = Profile(clock)
    clock.now = 1.0
    with profile.stage("source"):
        clock.now = 3.0
        with profile.stage("load"), profile.stage("load"):
            clock.now = 6.0
        clock.now = 7.0
    found = profile.seconds()
    assert {name: seconds for name, seconds in found.items() if seconds} == {"source": 4.0, "load": 2.0, "other": 1.0}
    assert list(found) == list(STAGES)


def test_what_is_within_another_stage_takes_its_place(clock: Clock) -> None:
    profile = Profile(clock)
    with profile.stage("load"):
        clock.now = 1.0
        with profile.stage("verify", within="load"):
            clock.now = 3.0
        clock.now = 3.5
    found = profile.seconds()
    assert (found["load"], found["verify"]) == (1.5, 2.0)


@given(st.lists(st.tuples(st.sampled_from(list(STAGES)), st.floats(0, 10)), max_size=20))
def test_the_stages_sum_up_to_the_wall_time(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    profile = Profile(clock)
    working = []
    for name, seconds in steps:
        working.append(profile.stage(name))
        working[-1].__enter__()
        clock.now += seconds
        if len(working) > 2:
            working.pop(0).__exit__(None, None, None)
    assert sum(profile.seconds().values()) == pytest.approx(clock.now, abs=0.001)


def test_nothing_is_measured_unless_it_is_asked_for(clock: Clock) -> None:
    profile = Profile(clock)
    with profiled(profile):
        with stage("plan"):
            clock.now = 1.0
        with profiled(None), stage("load"):
            clock.now = 2.0
    with stage("write"):
        clock.now = 3.0
    found = profile.seconds()
    assert (found["plan"], found["load"], found["write"], found["other"]) == (1.0, 0.0, 0.0, 2.0)


def test_threads_may_work_on_stages_at_the_same_time(clock: Clock) -> None:
    profile = Profile(clock)

    def work() -> None:
        for _ in range(500):
            with profile.stage("decode"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.now = 2.0
    assert profile.seconds()["other"] == 2.0
