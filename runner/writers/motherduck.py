"""MotherDuck: DuckDB's recipe on a database that many have open at once.

There is no file to lock: leases order the runs, and of two transactions that change the same rows the service refuses
one (motherduck.com/docs, "Connecting to MotherDuck"; duckdb.org/docs, "Concurrency").
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import duckdb
from pydantic import BaseModel, ConfigDict, Field

from runner.errors import RunnerError, UsageError
from runner.load import DatasetState
from runner.secrets import remember
from runner.writers.duckdb import DuckDBWriter
from runner.writers.registry import RegistryClient, options_of_variables
from runner.writers.transactional import PROMISES, TransactionalWriter


class MotherDuckConfig(BaseModel):
    """The keys of a destination of type motherduck."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    database: str = Field("", description="the database that holds the dataset's schema; it must exist")
    token: str = Field("", description="an access token; MOTHERDUCK_TOKEN by default", repr=False)


class MotherDuck:
    """A MotherDuck database.

    Args:
        options: The keys of the destination in the job file, as MotherDuckConfig has them.
        folder: Not used: nothing is kept here.
        memory: Bytes that loading may take.
    """

    config_model = MotherDuckConfig
    max_name = 63
    promises: ClassVar[dict[str, str]] = PROMISES
    metered = True
    unproved = "the extension cannot be loaded where the tests run; its SQL is run on DuckDB itself"

    def __init__(self, options: dict[str, Any], *, folder: Path, memory: int) -> None:
        self._config = MotherDuckConfig.model_validate(options)
        self._memory = memory
        if not self._config.database:
            raise UsageError("The destination of type motherduck lacks database.", guidance="Name one that exists.")
        if self._config.token:
            remember(f"token={self._config.token}")

    @staticmethod
    def options_from_dlt(environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the options that dlt's own variables hold (dlthub.com, MotherDuck destination)."""
        prefix = "DESTINATION__MOTHERDUCK__CREDENTIALS"
        if whole := environ.get(prefix, "").removeprefix("md:"):
            database, _, query = whole.lstrip("/").partition("?")
            token = query.removeprefix("motherduck_token=").removeprefix("token=")
            return {"database": database, **({"token": token} if token else {})}
        keys = {"DATABASE": "database", "PASSWORD": "token"}
        return options_of_variables(environ, prefix, keys)

    def describe(self) -> str:
        return f"motherduck {self._config.database}"

    def writer(self, dataset: str) -> MotherDuckWriter:
        return MotherDuckWriter(self._config, dataset, self._memory)


class MotherDuckWriter(DuckDBWriter):
    """Writes to one schema of a database of the service."""

    def __init__(self, config: MotherDuckConfig, dataset: str, memory: int) -> None:
        super().__init__(Path(config.database), dataset, memory)
        self._config = config

    def connect(self, stack: contextlib.ExitStack) -> duckdb.DuckDBPyConnection:
        token = {"motherduck_token": self._config.token} if self._config.token else {}
        return duckdb.connect(f"md:{self._config.database}", config={**self.settings(), **token})

    def read_state(self, run: str | None) -> DatasetState:
        return TransactionalWriter.read_state(self, run)

    def registry_client(self) -> RegistryClient:
        token = f"?motherduck_token={self._config.token}" if self._config.token else ""
        url = f"md:{self._config.database}{token}"
        return RegistryClient("motherduck", url, self.dataset, contextlib.nullcontext)

    def diagnose(self) -> list[tuple[str, str, str]]:
        try:
            with self.session() as cursor:
                version = cursor.rows("select version()")[0][0]
        except RunnerError as error:
            return [("fail", error.message, error.advice)]
        return [("ok", f"MotherDuck answers (DuckDB {version}), database {self._config.database}", "")]
