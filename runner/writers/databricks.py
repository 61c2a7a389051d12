"""Databricks as a destination: its keys, and how the runner logs in.

Facts: docs.databricks.com, "Databricks SQL Connector for Python" (connect, OAuth machine-to-machine by the SDK) and
"Configuration parameters" (a SQL warehouse takes no other settings than those listed, so that no commit can be tagged).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from runner.errors import UsageError
from runner.secrets import remember
from runner.writers.databrickswriter import DatabricksWriter
from runner.writers.registry import options_of_variables
from runner.writers.transactional import PROMISES

_ANSWER_SECONDS = 60


class DatabricksConfig(BaseModel):
    """The keys of a destination of type databricks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server_hostname: str = Field("", description="the workspace's host, as in dbc-….cloud.databricks.com")
    http_path: str = Field("", description="the SQL warehouse's HTTP path, as in /sql/1.0/warehouses/…")
    catalog: str = Field("", description="the catalog of Unity Catalog that holds the dataset's schema")
    volume: str = Field(
        "", description="a volume for files, as CATALOG.SCHEMA.VOLUME; by default one is made in the dataset"
    )
    token: str = Field("", description="a personal or OAuth access token", repr=False)
    client_id: str = Field("", description="OAuth: the service principal's client id")
    client_secret: str = Field("", description="OAuth: the service principal's secret", repr=False)


class Databricks:
    """A catalog of Databricks, reached through a SQL warehouse.

    Args:
        options: The keys of the destination in the job file, as DatabricksConfig has them.
        folder: Not used: nothing is kept here.
        memory: Not used: files are uploaded as they are.
    """

    config_model = DatabricksConfig
    max_name = 255
    promises: ClassVar[dict[str, str]] = {
        "full": PROMISES["full"],
        "append": "exactly once, for COPY INTO skips the files that it has loaded",
        "incremental": PROMISES["incremental"],
    }
    metered = True
    unproved = "it never ran on Databricks: its statements are compared with files that were read by eye"

    def __init__(self, options: dict[str, Any], *, folder: Path, memory: int) -> None:
        try:
            missing_driver = find_spec("databricks.sql") is None
        except ModuleNotFoundError:
            missing_driver = True
        if missing_driver:
            raise ModuleNotFoundError(name="databricks-sql-connector")
        self._config = config = DatabricksConfig.model_validate(options)
        needed = {"server_hostname": config.server_hostname, "http_path": config.http_path, "catalog": config.catalog}
        if missing := [key for key, value in needed.items() if not value]:
            raise UsageError(
                f"The destination of type databricks lacks {' and '.join(missing)}.",
                guidance="Write them into the job file or connections.yml, or set DEST_CREDS.",
            )
        if bool(config.token) == bool(config.client_id and config.client_secret):
            raise UsageError(
                "The destination of type databricks needs either a token, or client_id and client_secret.",
                guidance="Refer to them, as in token: ${DATABRICKS_TOKEN}.",
            )
        if config.volume and config.volume.count(".") != 2:
            raise UsageError("The volume of the destination is written as CATALOG.SCHEMA.VOLUME.")
        for key, secret in (("token", config.token), ("client_secret", config.client_secret)):
            if secret:
                remember(f"{key}={secret}")

    @staticmethod
    def options_from_dlt(environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the options that dlt's own variables hold (dlthub.com, Databricks destination)."""
        prefix = "DESTINATION__DATABRICKS__CREDENTIALS"
        keys = {
            "SERVER_HOSTNAME": "server_hostname",
            "HTTP_PATH": "http_path",
            "CATALOG": "catalog",
            "ACCESS_TOKEN": "token",
            "CLIENT_ID": "client_id",
            "CLIENT_SECRET": "client_secret",
        }
        return options_of_variables(environ, prefix, keys)

    def describe(self) -> str:
        return f"databricks {self._config.server_hostname}/{self._config.catalog}"

    def writer(self, dataset: str) -> DatabricksWriter:
        config = self._config
        given = {
            "server_hostname": config.server_hostname,
            "http_path": config.http_path,
            "catalog": config.catalog,
            "access_token": config.token,
            "client_id": config.client_id,
            "client_secret": config.client_secret,
        }
        credentials = {key: value for key, value in given.items() if value}
        return DatabricksWriter(self._connect, config.catalog, config.volume, dataset, credentials)

    def _connect(self) -> Any:
        """Open a connection of the driver."""
        from databricks import sql

        config = self._config
        login = {"access_token": config.token} if config.token else {"credentials_provider": self._principal}
        return sql.connect(
            server_hostname=config.server_hostname,
            http_path=config.http_path,
            session_configuration={"ANSI_MODE": "true", "TIMEZONE": "UTC"},
            user_agent_entry="orchestra-runner",
            # Only open files are sent: the server may ask for none by its path, and REMOVE wants to be told so.
            staging_allowed_local_path=os.devnull,
            enable_telemetry=False,
            _socket_timeout=_ANSWER_SECONDS,
            **login,
        )

    def _principal(self) -> Any:
        from databricks.sdk.core import Config, oauth_service_principal

        config = self._config
        return oauth_service_principal(
            Config(
                host=f"https://{config.server_hostname}",
                client_id=config.client_id,
                client_secret=config.client_secret,
            )
        )
