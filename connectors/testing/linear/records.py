"""What a workspace holds: records by type, in the fields of the schema; references are ids."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    get_nullable_type,
)

_DEFAULTS: dict[str, Any] = {
    "String": "",
    "Float": 0.0,
    "Int": 0,
    "Boolean": False,
    "JSONObject": {},
    "JSON": {},
    "DateTime": "1970-01-01T00:00:00.000Z",
}

# Where the members of a connection come from: the children's own field that names the parent, the parent's list of
# ids, or the children's list that names the parent.
CONNECTIONS: dict[tuple[str, str], tuple[str, str]] = {
    ("Issue", "comments"): ("by", "issue"),
    ("Issue", "attachments"): ("by", "issue"),
    ("Issue", "children"): ("by", "parent"),
    ("Issue", "labels"): ("list", "labelIds"),
    ("Issue", "subscribers"): ("list", "subscribers"),
    ("Cycle", "issues"): ("by", "cycle"),
    ("Team", "issues"): ("by", "team"),
    ("Team", "cycles"): ("by", "team"),
    ("Team", "states"): ("by", "team"),
    ("Team", "labels"): ("by", "team"),
    ("Team", "members"): ("list", "members"),
    ("Team", "projects"): ("in", "teams"),
    ("Project", "issues"): ("by", "project"),
    ("Project", "comments"): ("by", "project"),
    ("Project", "projectMilestones"): ("by", "project"),
    ("Project", "members"): ("list", "members"),
    ("Project", "teams"): ("list", "teams"),
    ("User", "assignedIssues"): ("by", "assignee"),
    ("User", "createdIssues"): ("by", "creator"),
    ("User", "delegatedIssues"): ("by", "delegate"),
    ("User", "teams"): ("in", "members"),
    ("IssueLabel", "issues"): ("in", "labelIds"),
    ("IssueLabel", "children"): ("by", "parent"),
    ("WorkflowState", "issues"): ("by", "state"),
    ("ProjectMilestone", "issues"): ("by", "projectMilestone"),
    ("Comment", "children"): ("by", "parent"),
}


def stamp(moment: datetime) -> str:
    """Return a time as Linear writes it: UTC, in milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


class Records:
    """A workspace that a test fills and changes."""

    def __init__(self, schema: GraphQLSchema, clock: Callable[[], datetime]) -> None:
        self.schema = schema
        self._clock = clock
        self._made = 0
        self._kinds: dict[str, dict[str, dict[str, Any]]] = {}

    def add(self, kind: str, **values: Any) -> str:
        """Make a record and return its id; what is not given and must not be null gets an empty value."""
        self._made += 1
        now = stamp(self._clock())
        found = values.get("id") or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind}{self._made}"))
        record = {"createdAt": now, "updatedAt": values.get("createdAt", now), **values, "id": found}
        made = self.schema.type_map[kind]
        assert isinstance(made, GraphQLObjectType), kind
        for name, field in made.fields.items():
            paged = get_named_type(field.type).name.endswith("Connection")
            if name not in record and isinstance(field.type, GraphQLNonNull) and not paged:
                record[name] = _empty(field.type)
        self._kinds.setdefault(kind, {})[found] = {**record, "__typename": kind}
        return str(found)

    def set(self, kind: str, found: str, **values: Any) -> None:
        """Change a record; ``updatedAt`` is now, unless it is given."""
        self._kinds[kind][found] = {**self._kinds[kind][found], "updatedAt": stamp(self._clock()), **values}

    def archive(self, kind: str, found: str) -> None:
        """Archive a record: it is left out from then on, unless archived ones are asked for."""
        self.set(kind, found, archivedAt=stamp(self._clock()))

    def trash(self, found: str) -> None:
        """Put an issue into the bin, where it is archived too, until it is removed for good."""
        self.set("Issue", found, trashed=True, archivedAt=stamp(self._clock()))

    def remove(self, kind: str, found: str) -> None:
        """Remove a record for good."""
        del self._kinds[kind][found]

    def get(self, kind: str, found: str | None) -> dict[str, Any] | None:
        """Return a record; an issue is found by its identifier, a team by its key too."""
        all_of = self._kinds.get(kind, {})
        other = {"Issue": "identifier", "Team": "key"}.get(kind)
        if found in all_of or other is None:
            return all_of.get(found or "")
        return next((one for one in all_of.values() if one.get(other) == found), None)

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return every record of a type."""
        return list(self._kinds.get(kind, {}).values())

    def members(self, parent: dict[str, Any], field: str, kind: str) -> list[dict[str, Any]]:
        """Return what a connection of a record holds."""
        how, key = CONNECTIONS.get((parent["__typename"], field), ("list", ""))
        if how == "by":
            return [one for one in self.all(kind) if one.get(key) == parent["id"]]
        if how == "in":
            return [one for one in self.all(kind) if parent["id"] in (one.get(key) or ())]
        found = (self.get(kind, one) for one in parent.get(key) or ())
        return [one for one in found if one is not None]


def _empty(kind: Any) -> Any:
    inner = get_nullable_type(kind)
    if isinstance(inner, GraphQLList):
        return []
    named = get_named_type(kind)
    if isinstance(named, GraphQLEnumType):
        return next(iter(named.values))
    if isinstance(named, GraphQLObjectType):
        fields = named.fields.items()
        made = {name: _empty(one.type) for name, one in fields if isinstance(one.type, GraphQLNonNull)}
        return None if "id" in named.fields else {**made, "__typename": named.name}
    return _DEFAULTS.get(named.name)
