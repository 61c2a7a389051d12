"""The sources of a dbt project whose freshness it wants to know, from the artifact that dbt leaves.

Facts: docs.getdbt.com, "Manifest JSON file" (sources), "freshness" (warn_after, error_after, filter, loaded_at_field,
loaded_at_query), "dbt source" (pass, warn, error and runtime error).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from runner.errors import UsageError

_PERIODS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
PARSE = "Run `dbt parse` in the project: it writes it."


@dataclass(frozen=True)
class FreshSource:
    """A source table of a project.

    Attributes:
        id: ``source.<project>.<source>.<table>``.
        name: ``<source>.<table>``.
        select: The query of when it was loaded.
    """

    id: str
    name: str
    relation: str
    select: str
    warn_after: timedelta | None
    error_after: timedelta | None

    def status(self, age: timedelta | None) -> str:
        """Return what dbt would say of that age; a table without rows has none."""
        if age is None or (self.error_after is not None and age > self.error_after):
            return "error" if age is not None or self.error_after is not None else "warn"
        return "warn" if self.warn_after is not None and age > self.warn_after else "pass"

    def matches(self, pattern: str) -> bool:
        """Tell whether a pattern names it: ``shop``, ``shop.orders``, ``*.orders``, ``source:shop``."""
        wanted = pattern.removeprefix("source:")
        return any(fnmatchcase(name, wanted) for name in (self.name, self.name.partition(".")[0], self.id))


def read_manifest(path: Path) -> tuple[FreshSource, ...]:
    """Return the sources that have a freshness and say when they were loaded; it blocks.

    Raises:
        UsageError: There is no manifest, or it cannot be read.
    """
    try:
        sources = json.loads(path.read_bytes())["sources"]
        return tuple(source for id_, node in sources.items() for source in _sources(id_, node))
    except FileNotFoundError:
        raise UsageError(f"There is no {path}.", guidance=PARSE) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no manifest of dbt ({type(error).__name__}: {error}).", guidance=PARSE) from error


def _sources(id_: str, node: Mapping[str, Any]) -> Iterator[FreshSource]:
    config = node.get("config") or {}
    freshness = node.get("freshness") or config.get("freshness") or {}
    warn, error = _period(freshness.get("warn_after")), _period(freshness.get("error_after"))
    field = node.get("loaded_at_field") or config.get("loaded_at_field")
    query = node.get("loaded_at_query") or config.get("loaded_at_query")
    relation = node.get("relation_name")
    if (warn is None and error is None) or not relation or not (field or query):
        return
    if query:
        select = str(query).strip().rstrip(";")
    else:
        # The line ends close comments of the project's own SQL.
        where = f" where (\n{freshness['filter']}\n)" if freshness.get("filter") else ""
        select = f"select max(\n{field}\n) from {relation}{where}"
    yield FreshSource(id_, f"{node['source_name']}.{node['name']}", relation, select, warn, error)


def _period(given: Mapping[str, Any] | None) -> timedelta | None:
    if not given or given.get("count") is None or given.get("period") is None:
        return None
    return int(given["count"]) * _PERIODS[str(given["period"])]
