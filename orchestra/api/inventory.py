"""What a workspace holds beside pipelines and runs: assets, connections, environments, accounts, dbt's state.

Facts: Orchestra docs, API, "List assets", "List integration connections", "Environments" (values are replaced as a
whole; the default one stays while there are others), "Get integration state", "Get Azure federated credentials"; the
platform API, "List workspaces".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from connectors.http.answers import Reply
from orchestra.api.answers import judge_once
from orchestra.api.endpoints import Endpoints, advised, given, model, models, quoted
from orchestra.api.records import (
    Account,
    Asset,
    Connection,
    DbtState,
    Environment,
    EnvironmentValue,
    FederatedCredentials,
)
from orchestra.api.transport import listed
from runner.errors import RequestRefused

_STATE = "state/DBT_CORE"


class Inventory(Endpoints):
    """The rest of a workspace."""

    def assets(
        self, *, asset_types: tuple[str, ...] = (), integration: str | None = None
    ) -> AsyncGenerator[list[Asset], None]:
        """Return pages of assets, whenever they were made; leave it with ``aclosing``."""
        asked = given(asset_type=asset_types, integration=integration)
        return models(Asset, self.transport.pages("assets", asked))

    async def connections(self, *, integration: str | None = None, auth_status: str | None = None) -> list[Connection]:
        """Return the connections, without their secrets.

        Args:
            integration: As Orchestra spells it: SNOWFLAKE.
            auth_status: SUCCEEDED, FAILED, INITIATED, VALIDATING or DEPRECATED.
        """
        reply = await self.transport.read(
            "integrations/connections", given(integration=integration, authStatus=auth_status)
        )
        assert reply is not None
        return [model(Connection, one, reply) for one in listed(reply)]

    async def accounts(self) -> list[Account]:
        """Return the workspaces that the key may use: its own one; for a token of somebody all of theirs."""
        reply = await self.transport.read("/public/v1/accounts", {})
        assert reply is not None
        return [model(Account, one, reply) for one in listed(reply)]

    async def federated_credentials(self) -> FederatedCredentials:
        """Return what an app registration in Azure must trust for this workspace."""
        reply = await self.transport.read("compute_resources/azure/federated_credentials", {})
        assert reply is not None
        return model(FederatedCredentials, reply.data, reply)

    # Environments.

    async def environments(self) -> list[Environment]:
        """Return the environments, without their values."""
        reply = await self.transport.read("environments", {})
        assert reply is not None
        return [model(Environment, one, reply) for one in listed(reply)]

    async def environment(self, environment: str) -> Environment | None:
        """Return an environment by its id, with its values; None where there is none."""
        reply = await self.transport.read(f"environments/{quoted(environment)}", {}, missing=True)
        return None if reply is None else model(Environment, reply.data, reply)

    async def create_environment(self, name: str, values: Mapping[str, EnvironmentValue]) -> Environment:
        """Make an environment; it is sent at most once. The first one becomes the default.

        Raises:
            NotDelivered: Nothing was made.
            DeliveryRefused: Nothing was made, and another attempt cannot help.
            OutcomeUnknown: It may have been made.
        """
        what = f"the making of the environment {name!r}"
        with advised("look for it in the list of environments"):
            reply = await self.transport.once("environments", {"name": name, "values": _written(values)}, what)
            judged = judge_once(reply, Environment, "environmentId", what, self.workspace, now=self.clock.now())
            return self.settled(judged, reply)

    async def update_environment(
        self, environment: str, name: str, values: Mapping[str, EnvironmentValue], *, default: bool
    ) -> Environment:
        """Change an environment; what ``values`` does not hold is gone afterwards.

        Args:
            default: Whether it is the default one from now on, instead of another.
        """
        body = {"name": name, "values": _written(values), "defaultEnv": default}
        path = f"environments/{quoted(environment)}"
        reply = self._found(await self.transport.repeat("PATCH", path, json=body, missing=True), environment)
        return model(Environment, reply.data, reply)

    async def delete_environment(self, environment: str) -> bool:
        """Delete an environment; tell whether there was one."""
        return await self.transport.repeat("DELETE", f"environments/{quoted(environment)}", missing=True) is not None

    def _found(self, reply: Reply | None, environment: str) -> Reply:
        if reply is None:
            raise RequestRefused(
                f"There is no environment {environment!r} in this workspace.", guidance="It is named by its id."
            )
        return reply

    # dbt.

    async def dbt_state(self) -> DbtState:
        """Return what dbt's state orchestration knows; nothing yet is an empty state."""
        reply = await self.transport.read(_STATE, {}, missing=True)
        return DbtState() if reply is None else model(DbtState, reply.data or {}, reply)

    async def update_dbt_state(self, state: DbtState) -> None:
        """Give dbt's state orchestration what changed: assets that are not named stay as they are."""
        body: Any = {"state": {key: one.model_dump(mode="json") for key, one in state.state.items()}}
        await self.transport.repeat("PATCH", _STATE, json=body)


def _written(values: Mapping[str, EnvironmentValue]) -> dict[str, Any]:
    return {key: value.model_dump(mode="json") for key, value in values.items()}
