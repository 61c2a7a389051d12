"""Which tests go to one worker together, and which of them begin first.

Together goes what looks at one thing that takes long to make: an emulator, a first run that others are copied from;
and what should not run at the same time.
pytest-xdist's own ``xdist_group`` changes the ids of tests for this, which pytest 9.2 no longer lets it do: it says
nothing, and deals them out one by one.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

_TOGETHER = (
    ("bigquery", re.compile(r"/test_bigquery\.py|/test_matrix\.py.*-bigquery\]")),
    ("snowflake", re.compile(r"/test_(?:sql_)?snowflake\.py|/test_matrix\.py.*-snowflake\]")),
    ("fidelity", re.compile(r"/test_fidelity\.py")),
    ("dbt projects", re.compile(r"/test_dbt_projects\.py")),
    ("orchestra clients", re.compile(r"/test_orchestra_clients\.py")),
    # The cells of a destination are copied from the same first runs.
    ("matrix of {}", re.compile(r"/test_matrix\.py.*-(\w+)\]")),
    # Each alone keeps all processors busy; and groups begin first.
    ("{}", re.compile(r"/(acceptance/test_apart|test_soak)\.py")),
)
# At the end of a run, all workers but one would wait for such a test.
_LONG = re.compile(r"/(test_sensorsoak|test_histories)\.py::")
_PLACES = ("tests/acceptance/", "tests/integration/")


def group(test: str) -> str:
    """Return what a test's id shares a worker with: the name of a group, or the id itself."""
    if not test.startswith(_PLACES):
        return test
    for name, pattern in _TOGETHER:
        if found := pattern.search(test):
            return name.format(*found.groups())
    return test


def rank(test: str) -> int:
    """Return how late a test begins: the long ones first, then those of many processes, then the others."""
    if _LONG.search(test):
        return 0
    return next((number for number, place in enumerate(_PLACES, 1) if test.startswith(place)), 1 + len(_PLACES))


class Schedule(LoadScopeScheduling):
    """Deals out groups, those of most tests first, and then single tests in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
