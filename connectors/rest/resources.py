"""Resources with their defaults, their parents and all that their expressions refer to, in the order they depend on."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.rest import config
from connectors.rest.credentials import AuthModel
from connectors.rest.hints import key_of
from connectors.rest.jsonpaths import JsonPath, compiled
from connectors.rest.options import Automatic, PaginatorModel, SinglePage
from connectors.rest.placeholders import expressions, outside
from runner.document import nearest
from runner.errors import JobFileError

_PARAMS = ("resolve", "incremental")
# A last part of a path that is an expression: one object and not a list of them.
_ENTITY = re.compile(r"\{([a-zA-Z0-9.\-_]+)\}")


@dataclass(frozen=True)
class Resource:
    """What is asked for, and how.

    Attributes:
        table: The name of its table.
        selector: The path of the rows; None: the first answer shows it.
        paginator: None: the first answer shows it.
        parent: The resource whose rows fill in its expressions.
        resolved: Expressions, and the path of their value in a row of the parent.
        include: Fields of the parent that its own rows get.
    """

    name: str
    table: str
    path: str
    method: str
    params: Mapping[str, Any]
    headers: Mapping[str, Any] | None
    json: Any
    data: Any
    selector: str | None
    paginator: PaginatorModel | None
    auth: AuthModel | None
    actions: tuple[config.Action, ...]
    incremental: config.Incremental | None
    parent: str | None
    resolved: tuple[tuple[str, JsonPath], ...]
    include: tuple[str, ...]
    steps: tuple[config.Step, ...]
    key: tuple[str, ...]
    merge_key: tuple[str, ...]
    disposition: str | None
    columns: Mapping[str, Mapping[str, Any]]
    selected: bool


def resources(settings: config.RestConfig) -> dict[str, Resource]:
    """Return all resources by name.

    Raises:
        JobFileError: Something refers to what is not there, or one of them cannot be read.
    """
    found: dict[str, Resource] = {}
    for model in settings.resources:
        if model.name in found:
            raise JobFileError(f"resources: {model.name!r} stands twice.")
        try:
            found[model.name] = _settled(_over(settings.resource_defaults, model), settings.client)
        except ValueError as error:
            raise JobFileError(f"resources.{model.name}: {error}.") from error
    for one in found.values():
        _check_parents(one, found)
    tables: dict[str, str] = {}
    for one in found.values():
        if one.selected and tables.setdefault(one.table, one.name) != one.name:
            raise JobFileError(
                f"resources: {tables[one.table]!r} and {one.name!r} would both fill the table {one.table!r}."
            )
    return found


def _over(defaults: config.ResourceDefaults | None, model: config.Resource) -> config.Resource:
    """Return a resource over its defaults: params and json key by key, columns hint by hint, all else as a whole."""
    if defaults is None:
        return model
    base = defaults.endpoint or config.Endpoint()
    own = model.endpoint or config.Endpoint()
    merged = {name: getattr(base, name) for name in base.model_fields_set}
    merged |= {name: getattr(own, name) for name in own.model_fields_set}
    for name in ("params", "json_"):
        if name in own.model_fields_set and isinstance(getattr(base, name), dict):
            merged[name] = {**getattr(base, name), **(getattr(own, name) or {})}
    whole = {name: getattr(defaults, name) for name in defaults.model_fields_set}
    whole |= {name: getattr(model, name) for name in model.model_fields_set}
    if defaults.columns and model.columns:
        whole["columns"] = {
            name: {**defaults.columns.get(name, {}), **model.columns.get(name, {})}
            for name in {**defaults.columns, **model.columns}
        }
    return config.Resource.model_construct(**{**whole, "endpoint": config.Endpoint.model_construct(**merged)})


def _settled(model: config.Resource, client: config.Client) -> Resource:
    endpoint = model.endpoint or config.Endpoint()
    params = dict(endpoint.params or {})
    path = endpoint.path if endpoint.path is not None else model.name
    _check_params(params)
    selector, paginator = endpoint.data_selector, endpoint.paginator
    last = [part for part in path.split("/") if part and part != "."]
    if last and _ENTITY.search(last[-1]):
        selector = selector if selector is not None else "$"
        paginator = paginator if paginator is not None else SinglePage()
    if paginator is None or isinstance(paginator, Automatic):
        paginator = client.paginator
    incremental = _incremental(params, endpoint.incremental)
    old = {name: value for name, value in params.items() if isinstance(value, dict) and value["type"] == "resolve"}
    contexts = ["resources", *(["incremental"] if endpoint.incremental else [])]
    path = _with_params(path, params, old, contexts, model.name)
    named = {one for one in expressions(path) if one.startswith("resources.")}
    for what, content in (
        ("params", {name: value for name, value in params.items() if name not in old}),
        ("json", endpoint.json_),
        ("data", endpoint.data),
        ("headers", endpoint.headers),
    ):
        used = expressions(content)
        wrong = outside(used, contexts)
        if wrong is not None:
            raise ValueError(
                f"{what}: {{{wrong}}} stands for nothing: it has to begin with {' or '.join(contexts)}. "
                "Braces that are meant as such are doubled"
            )
        named |= {one for one in used if one.startswith("resources.")}
    parent, resolved = _resolved(old, named)
    if endpoint.json_ and endpoint.data:
        raise ValueError("json or data, not both")
    if model.include_from_parent and parent is None:
        raise ValueError("include_from_parent: it has no parent")
    return Resource(
        name=model.name,
        table=model.table_name or model.name,
        path=path,
        method=(endpoint.method or "GET").upper(),
        params={
            name: value
            for name, value in params.items()
            if name not in old and not (isinstance(value, dict) and value["type"] == "incremental")
        },
        headers=endpoint.headers,
        json=endpoint.json_,
        data=endpoint.data,
        selector=selector,
        paginator=None if isinstance(paginator, Automatic) else paginator,
        auth=endpoint.auth if "auth" in endpoint.model_fields_set else client.auth,
        actions=tuple(endpoint.response_actions or ()),
        incremental=incremental,
        parent=parent,
        resolved=resolved,
        include=tuple(model.include_from_parent or ()),
        steps=tuple(model.processing_steps or ()),
        key=key_of(model.primary_key, model.columns, "primary_key"),
        merge_key=key_of(model.merge_key, model.columns, "merge_key"),
        disposition=model.write_disposition,
        columns=model.columns,
        selected=model.selected is not False and model.write_disposition != "skip",
    )


def _check_params(params: Mapping[str, Any]) -> None:
    for name, value in params.items():
        if isinstance(value, dict) and value.get("type") not in _PARAMS:
            raise ValueError(f"params.{name}: a dictionary is of type {' or '.join(_PARAMS)}")
        if isinstance(value, dict) and value["type"] == "resolve" and not {"resource", "field"} <= set(value):
            raise ValueError(f"params.{name}: it needs resource and field")


def _incremental(params: Mapping[str, Any], block: config.Incremental | None) -> config.Incremental | None:
    """Return the incremental block, or the older parameter of that type."""
    given = {
        name: value for name, value in params.items() if isinstance(value, dict) and value["type"] == "incremental"
    }
    if len(given) > 1:
        raise ValueError(f"params: {', '.join(given)}: there can be one incremental")
    for name, value in given.items():
        if value.get("end_value") or value.get("end_param"):
            raise ValueError(f"params.{name}: an end needs the key incremental of the endpoint")
        own = {key: one for key, one in value.items() if key != "type"}
        return config.Incremental.model_validate({**own, "start_param": name})
    return block


def _with_params(path: str, params: dict[str, Any], old: Mapping[str, Any], contexts: list[str], resource: str) -> str:
    """Return a path with the parameters that it names; they go from the query."""
    parts, left = [], set(old)
    for literal, field, _, _ in string.Formatter().parse(path):
        parts.append(literal)
        if not field:
            continue
        if field.startswith(tuple(f"{context}." for context in contexts)) or field in old:
            parts.append(f"{{{field}}}")
            left.discard(field)
        elif field not in params:
            raise ValueError(f"path: {{{field}}} stands for nothing: there is no such parameter")
        elif isinstance(params[field], dict):
            raise ValueError(f"path: {{{field}}} is incremental, and a path can only take values of a parent")
        else:
            parts.append(str(params.pop(field)))
    if left:
        raise ValueError(f"params: {', '.join(sorted(left))} is of type resolve and not in the path")
    return "".join(parts)


def _resolved(old: Mapping[str, Any], named: set[str]) -> tuple[str | None, tuple[tuple[str, JsonPath], ...]]:
    found = [(name, str(value["resource"]), compiled(str(value["field"]))) for name, value in old.items()]
    for one in sorted(named):
        parts = one.split(".", 2)
        if len(parts) != 3:
            raise ValueError(f"{{{one}}}: it has to be resources.PARENT.FIELD")
        found.append((one, parts[1], compiled(parts[2])))
    parents = sorted({parent for _, parent, _ in found})
    if len(parents) > 1:
        raise ValueError(f"it refers to several parents: {', '.join(parents)}")
    return (parents[0] if parents else None), tuple((name, path) for name, _, path in found)


def _check_parents(one: Resource, known: Mapping[str, Resource]) -> None:
    seen, at = [one.name], one
    while at.parent is not None:
        if at.parent not in known:
            near = nearest(at.parent, known)
            hint = f" Did you mean {near!r}?" if near else ""
            raise JobFileError(f"resources.{at.name}: there is no resource {at.parent!r}.{hint}")
        if at.parent in seen:
            raise JobFileError(f"resources.{one.name}: it is its own parent: {' of '.join([*seen, at.parent])}.")
        seen.append(at.parent)
        at = known[at.parent]
