"""The tables of a workspace, from what the server says of its own schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from runner.source import Column, Table

SCHEMA = "linear"
_UTC = pa.timestamp("us", tz="UTC")
# Source: https://linear.app/developers/graphql and the scalars of the published schema.
_SCALARS: dict[str, pa.DataType] = {
    "ID": pa.string(),
    "String": pa.string(),
    "UUID": pa.string(),
    "Float": pa.float64(),
    "Int": pa.int64(),
    "Boolean": pa.bool_(),
    "DateTime": _UTC,
    "TimelessDate": pa.date32(),
}
_JSON = frozenset({"JSON", "JSONObject"})
# What is marked so is not public, and the key of a source may not be allowed to read it.
_INTERNAL = "[internal]"

# Table → the field of Query that lists it, and the type of its rows.
ROOTS: dict[str, tuple[str, str]] = {
    "attachments": ("attachments", "Attachment"),
    "comments": ("comments", "Comment"),
    "cycles": ("cycles", "Cycle"),
    "issue_labels": ("issueLabels", "IssueLabel"),
    "issues": ("issues", "Issue"),
    "project_milestones": ("projectMilestones", "ProjectMilestone"),
    "projects": ("projects", "Project"),
    "teams": ("teams", "Team"),
    "users": ("users", "User"),
    "workflow_states": ("workflowStates", "WorkflowState"),
}


@dataclass(frozen=True)
class Link:
    """A table of pairs: which members a connection of another table has.

    Attributes:
        parent: The table whose rows have the connection.
        field: The connection.
        member: The type of its members.
        columns: The names of the two ids.
    """

    parent: str
    field: str
    member: str
    columns: tuple[str, str]


LINKS: dict[str, Link] = {
    "cycles_uncompleted_issues": Link("cycles", "uncompletedIssuesUponClose", "Issue", ("cycleId", "issueId")),
    "issues_labels": Link("issues", "labels", "IssueLabel", ("issueId", "labelId")),
    "issues_subscribers": Link("issues", "subscribers", "User", ("issueId", "userId")),
    "projects_members": Link("projects", "members", "User", ("projectId", "userId")),
    "projects_teams": Link("projects", "teams", "Team", ("projectId", "teamId")),
    "teams_members": Link("teams", "members", "User", ("teamId", "userId")),
}

# Three wrappers at most: [String!]! is a list that is not null of strings that are not null.
_TYPE = "type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }"
START = (
    'query { entities: __type(name: "Node") { possibleTypes { name } } '
    f'roots: __type(name: "Query") {{ fields {{ name args {{ name {_TYPE} }} }} }} }}'
)


def type_query(names: Iterable[str]) -> str:
    """Return the query for the fields of some types."""
    parts = [
        f'{name}: __type(name: "{name}") {{ fields {{ name description args {{ name {_TYPE} }} {_TYPE} }} '
        "inputFields { name } }"
        for name in names
    ]
    return f"query {{ {' '.join(parts)} }}"


@dataclass(frozen=True)
class Roots:
    """What the server lists.

    Attributes:
        entities: Types that have an id of their own.
        arguments: Field of Query → argument → the argument's type.
    """

    entities: frozenset[str]
    arguments: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Roots:
        """Read the answer to ``START``."""
        entities = frozenset(one["name"] for one in (data.get("entities") or {}).get("possibleTypes") or ())
        fields = (data.get("roots") or {}).get("fields") or ()
        return cls(
            entities,
            {one["name"]: {arg["name"]: _unwrap(arg["type"])[1] for arg in one["args"]} for one in fields},
        )


def wanted_types(tables: Iterable[str], roots: Roots) -> list[str]:
    """Return the types that these tables have to be described by."""
    found: dict[str, None] = {}
    for name in tables:
        root, kind = ROOTS[LINKS[name].parent if name in LINKS else name]
        if root in roots.arguments:
            found[kind] = None
            if "filter" in roots.arguments[root]:
                found[roots.arguments[root]["filter"]] = None
    return list(found)


def describe(name: str, roots: Roots, types: Mapping[str, Any]) -> Table | None:
    """Return a table; None where this server does not have it."""
    link = LINKS.get(name)
    root, kind = ROOTS[link.parent if link else name]
    shown = types.get(kind)
    if root not in roots.arguments or not shown:
        return None
    arguments = roots.arguments[root]
    asked = arguments.get("filter")
    detail: dict[str, Any] = {
        "root": root,
        "arguments": sorted(arguments),
        "filter": asked,
        "filters": [one["name"] for one in ((types.get(asked) or {}).get("inputFields") or ())] if asked else [],
    }
    if link is not None:
        return _pairs(name, link, detail, shown, kind)
    refs: dict[str, str] = {}
    columns = tuple(_columns(shown["fields"], roots.entities, refs))
    names = {column.name for column in columns}
    defaults: dict[str, Any] = {}
    if "updatedAt" in names and "updatedAt" in detail["filters"]:
        defaults = {"cursor": "updatedAt"}
    return Table(
        SCHEMA,
        name,
        columns,
        primary_key=("id",) if "id" in names else (),
        kind="object",
        indexed=tuple(one for one in ("updatedAt", "createdAt") if one in names and one in detail["filters"]),
        detail={**detail, "refs": refs},
        defaults=defaults,
    )


def _pairs(name: str, link: Link, detail: dict[str, Any], shown: Mapping[str, Any], kind: str) -> Table | None:
    field = next((one for one in shown["fields"] if one["name"] == link.field), None)
    if field is None:
        return None
    columns = tuple(
        Column(column, pa.string(), nullable=False, native=native)
        for column, native in zip(link.columns, (kind, link.member), strict=True)
    )
    detail["members"] = [one["name"] for one in field["args"]]
    # A pair that was taken away leaves no trace, and changes no time that could be asked for.
    return Table(SCHEMA, name, columns, primary_key=link.columns, kind="link", detail=detail, defaults={"mode": "full"})


def _columns(fields: Iterable[Mapping[str, Any]], entities: frozenset[str], refs: dict[str, str]) -> Iterator[Column]:
    public = [one for one in fields if not (one.get("description") or "").lower().startswith(_INTERNAL)]
    usable = [one for one in public if all(arg["type"]["kind"] != "NON_NULL" for arg in one["args"])]
    names = {one["name"] for one in usable}
    for one in usable:
        name = one["name"]
        kind, native, required, listed = _unwrapped(one["type"])
        if kind in ("SCALAR", "ENUM"):
            yield _column(name, native, kind, nullable=not required, listed=listed)
        elif kind == "OBJECT" and native in entities and not listed and f"{name}Id" not in names:
            refs[f"{name}Id"] = name
            yield Column(f"{name}Id", pa.string(), nullable=not required, native=native)


def _column(name: str, native: str, kind: str, *, nullable: bool, listed: bool) -> Column:
    if listed:
        return Column(name, pa.string(), nullable=nullable, native=f"[{native}]", json=True)
    if native in _JSON:
        return Column(name, pa.string(), nullable=nullable, native=native, json=True)
    known = _SCALARS.get(native)
    note = None if known or kind == "ENUM" else "a scalar of Linear's own, kept as it is written"
    return Column(name, known or pa.string(), nullable=nullable, native=native, note=note)


def _unwrap(shown: Mapping[str, Any]) -> tuple[str, str]:
    return _unwrapped(shown)[:2]


def _unwrapped(shown: Mapping[str, Any]) -> tuple[str, str, bool, bool]:
    """Return kind and name of the innermost type, whether it is required, and whether it is a list."""
    required, listed = shown["kind"] == "NON_NULL", False
    inner: Mapping[str, Any] | None = shown
    while inner is not None and inner["kind"] in ("NON_NULL", "LIST"):
        listed = listed or inner["kind"] == "LIST"
        inner = inner.get("ofType")
    return (inner["kind"], inner["name"], required, listed) if inner else ("", "", required, listed)
