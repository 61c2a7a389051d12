"""What other packages plug into the runner, found by entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal

from runner.errors import UsageError

Group = Literal[
    "runner.sources",
    "runner.databases",
    "runner.destinations",
    "runner.sensors",
    "runner.actions",
    "runner.platforms",
    "runner.transforms",
    "runner.secrets",
    "runner.commands",
]


@cache
def plugin_names(group: Group) -> tuple[str, ...]:
    """Return the names of a group, without importing anything."""
    return tuple(sorted(point.name for point in entry_points(group=group)))


def load_plugin(group: Group, name: str) -> Any:
    """Import one plug-in.

    Raises:
        UsageError: Nothing of that name is installed.
    """
    for point in entry_points(group=group, name=name):
        return point.load()
    kind = group.removeprefix("runner.").removesuffix("s")
    known = ", ".join(plugin_names(group)) or "none"
    raise UsageError(
        f"There is no {kind} of type {name!r}.",
        guidance=f"Known: {known}. Others are not there yet, or in a package that is not installed.",
    )


def load_plugins(group: Group) -> dict[str, Any]:
    """Import a whole group."""
    return {point.name: point.load() for point in entry_points(group=group)}
