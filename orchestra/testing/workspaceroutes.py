"""What the API answers about a workspace itself: environments, connections, the state of dbt, Azure credentials.

Facts: Orchestra docs, API, "Environments"; dbt-orchestra 1.1.0 (``/state/DBT_CORE``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from connectors.testing.double import answer
from orchestra.testing import refusals
from orchestra.testing.environment import KINDS, Environment
from orchestra.testing.refusals import Refusal, invalid
from orchestra.testing.request import Asked, Route

_VALUES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "int": (int,),
    "bool": (bool,),
    "integration_credential": (str,),
}
_AUTH_STATUSES = ("INITIATED", "VALIDATING", "FAILED", "SUCCEEDED", "DEPRECATED")


async def environments(asked: Asked) -> web.StreamResponse:
    """All environments, without their values."""
    asked.query()
    return answer([one.shown(asked.workspace.account) for one in asked.workspace.environments.values()])


async def environment(asked: Asked) -> web.StreamResponse:
    """One environment and its values."""
    asked.query()
    return answer(_found(asked).shown_alone(asked.workspace.account))


async def environment_created(asked: Asked) -> web.StreamResponse:
    """An environment more."""
    asked.query()
    body = refusals.fields_of(await asked.object(), {"name": (str,), "values": (dict,)}, ("name", "values"))
    _free(asked, body["name"])
    made = asked.workspace.environment(body["name"], _values(body.get("values") or {}))
    return answer(made.shown_alone(asked.workspace.account), status=201)


async def environment_changed(asked: Asked) -> web.StreamResponse:
    """Another name, other values (all of them), or another default."""
    asked.query()
    found, workspace = _found(asked), asked.workspace
    known: dict[str, tuple[type, ...]] = {"name": (str,), "values": (dict,), "defaultEnv": (bool,)}
    body = refusals.fields_of(await asked.object(), known, known)
    values = _values(body["values"]) if "values" in body else found.values
    if body.get("name", found.name) != found.name:
        _free(asked, body["name"])
    if found.default and body.get("defaultEnv") is False:
        raise Refusal(400, "Make another environment the default instead")
    if body.get("defaultEnv"):
        for one in workspace.environments.values():
            if one.default != (one is found):
                one.default = one is found
                workspace.keep(one)
    found.name, found.values, found.updated = body.get("name", found.name), values, asked.now
    workspace.keep(found)
    return answer(found.shown_alone(workspace.account))


async def environment_deleted(asked: Asked) -> web.StreamResponse:
    """An environment less."""
    asked.query()
    found = _found(asked)
    if found.default and len(asked.workspace.environments) > 1:
        raise Refusal(400, "The default environment cannot be deleted while there are others")
    asked.workspace.forget(found)
    return web.Response(status=204)


async def connections(asked: Asked) -> web.StreamResponse:
    """Connections of the workspace."""
    query = asked.query({"integration", "authStatus"})
    refusals.word_of(query, "authStatus", _AUTH_STATUSES)
    found = [one for one in asked.workspace.connections if all(one.get(name) == value for name, value in query.items())]
    return answer(found)


async def dbt_state(asked: Asked) -> web.StreamResponse:
    """What dbt has built."""
    asked.query()
    return answer({"state": asked.workspace.dbt_state})


async def dbt_state_changed(asked: Asked) -> web.StreamResponse:
    """Assets that dbt has built since take the place of what was said of them; the others stay."""
    asked.query()
    body = refusals.fields_of(await asked.object(), {"state": (dict,)}, ("state",))
    for asset, one in body["state"].items():
        if not isinstance(one, dict):
            raise invalid(["body", "state", asset], "Input should be a valid dictionary", "dict_type")
        for name in ("last_updated", "checksum"):
            if name not in one:
                raise invalid(["body", "state", asset, name], "Field required", "missing")
    asked.workspace.dbt_state |= body["state"]
    asked.workspace.keep_value("dbt_state", asked.workspace.dbt_state)
    return answer({"state": asked.workspace.dbt_state})


async def federated_credentials(asked: Asked) -> web.StreamResponse:
    """What Azure is told to trust."""
    asked.query()
    return answer(asked.workspace.federated_credentials)


def _found(asked: Asked) -> Environment:
    named = refusals.uuid_of(asked.request.match_info["environment"], ["path", "environment_id"])
    found = asked.workspace.environments.get(named)
    if found is None:
        raise Refusal(404, "Environment not found")
    return found


def _free(asked: Asked, name: str) -> None:
    if any(one.name == name for one in asked.workspace.environments.values()):
        raise Refusal(409, f"There is an environment {name} already")


def _values(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for name, one in values.items():
        if not isinstance(one, dict) or set(one) != {"type", "value"} or one["type"] not in KINDS:
            raise invalid(["body", "values", name], "Input should have a type and a value")
        kinds = _VALUES[one["type"]]
        if not isinstance(one["value"], kinds) or (isinstance(one["value"], bool) and bool not in kinds):
            raise invalid(["body", "values", name, "value"], f"Input should be a valid {one['type']}")
    return dict(values)


ROUTES: tuple[Route, ...] = (
    ("GET", "/environments", environments),
    ("POST", "/environments", environment_created),
    ("GET", "/environments/{environment}", environment),
    ("PATCH", "/environments/{environment}", environment_changed),
    ("DELETE", "/environments/{environment}", environment_deleted),
    ("GET", "/integrations/connections", connections),
    ("GET", "/state/DBT_CORE", dbt_state),
    ("PATCH", "/state/DBT_CORE", dbt_state_changed),
    ("GET", "/compute_resources/azure/federated_credentials", federated_credentials),
)
