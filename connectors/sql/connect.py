"""From a source of a file to a client that can be asked."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from connectors.sql.client import Client
from runner.errors import UsageError
from runner.job import SourceSpec
from runner.plugins import load_plugin, plugin_names

ModelT = TypeVar("ModelT", bound=BaseModel)


class Connect(Protocol):
    """Opens a client, which is lent as long as the block lasts."""

    def __call__(self) -> AbstractAsyncContextManager[Client]: ...


def prepare(spec: SourceSpec) -> Connect:
    """Return what opens the database of a source; only the modules of its own type are imported.

    Raises:
        UsageError: The source is no database, or its keys are wrong.
    """
    if spec.type not in plugin_names("runner.databases"):
        known = ", ".join(plugin_names("runner.databases"))
        raise UsageError(f"A source of type {spec.type!r} cannot be asked in SQL.", guidance=f"Known: {known}.")
    client = load_plugin("runner.databases", spec.type)
    return partial(_lent, client, _validated(client.config_model, spec))


@contextlib.asynccontextmanager
async def _lent(client: Callable[[BaseModel], Client], config: BaseModel) -> AsyncIterator[Client]:
    """Lend a client; nothing is connected before it is asked."""
    made = client(config)
    try:
        yield made
    finally:
        await made.close()


def _validated(model: type[ModelT], spec: SourceSpec) -> ModelT:
    try:
        return model.model_validate(spec.options)
    except ValidationError as error:
        # What was given may be a secret.
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors(include_input=False)
        )
        raise UsageError(f"The source of type {spec.type} is wrong: {wrong}.") from None
