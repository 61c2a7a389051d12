"""How the runner logs in to a warehouse of Microsoft Fabric, and what its refusals mean.

Facts: learn.microsoft.com, "Microsoft Entra authentication with mssql-python", "Transactions in Warehouse tables";
blog.fabric.microsoft.com, "Resolving Write Conflicts in Microsoft Fabric Data Warehouse" (24556, 24706). The driver
passes on the words of an error, and no number.
"""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from runner.errors import (
    CredentialsRejected,
    DatabaseMissing,
    DestinationBusy,
    DestinationDown,
    DestinationError,
    ReadOnly,
    RunnerError,
    SchemaConflict,
    Unreachable,
    UsageError,
)
from runner.secrets import redact

_DOWN = re.compile(
    r"communication link|connection not open|connection is closed|tcp provider|timed? ?out|not currently available|"
    r"connection failure|broken connection|forcibly closed",
    re.IGNORECASE,
)
# 1205 a deadlock; 2714 two who make the same thing; 3960 and 3961 snapshots; 24556 and 24706 a table that two change.
_BUSY = re.compile(
    r"update conflict|snapshot isolation|deadlock|lock request time|already an object named|\b(?:24556|24706)\b",
    re.IGNORECASE,
)
_ALTER = re.compile(r"ALTER (?:TABLE|COLUMN)[^.]* not supported|\b24585\b", re.IGNORECASE)
_FORBIDDEN = re.compile(r"permission[^.]* denied|do not have permission|does not have permission", re.IGNORECASE)
_REJECTED = re.compile(r"login failed|AADSTS|authentication failed|not authorized|credential", re.IGNORECASE)
_NO_DATABASE = re.compile(r"cannot open database", re.IGNORECASE)
CHANGED = "Drop or rename the table at the destination, then run the same command again."


class FabricConfig(BaseModel):
    """The keys of a destination of type fabric."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str = Field(
        "", description="the SQL connection string of the warehouse: ….datawarehouse.fabric.microsoft.com"
    )
    database: str = Field("", description="the warehouse")
    authentication: Literal["service_principal", "managed_identity", "default"] | None = Field(
        None,
        description="how it logs in; by default as a service principal where client_secret is given, else with what "
        "the environment offers",
    )
    tenant_id: str = Field("", description="service principal: its tenant")
    client_id: str = Field("", description="service principal: its application; managed identity: a user-assigned one")
    client_secret: str = Field("", description="service principal: its secret", repr=False)
    stage_url: str = Field(
        "",
        description="where Parquet files are put: az://container/prefix, or "
        "abfss://workspace@onelake.dfs.fabric.microsoft.com/lakehouse/Files/prefix, by ids",
    )
    stage_location: str = Field(
        "",
        description="the same place as COPY INTO reads it: https://account.blob.core.windows.net/container/prefix, or "
        "https://onelake.dfs.fabric.microsoft.com/workspace/lakehouse/Files/prefix",
    )
    stage_credential: str = Field(
        "", description="a SAS that COPY INTO reads the files with; by default the login itself", repr=False
    )

    @property
    def method(self) -> str:
        """How it logs in."""
        return self.authentication or ("service_principal" if self.client_secret else "default")

    def check(self) -> None:
        """Check that nothing lacks.

        Raises:
            UsageError: Something does.
        """
        needed = ["server", "database", "stage_url", "stage_location"]
        if self.method == "service_principal":
            needed += ["tenant_id", "client_id", "client_secret"]
        if missing := [key for key in needed if not getattr(self, key)]:
            raise UsageError(
                f"The destination of type fabric lacks {' and '.join(missing)}.",
                guidance="Write them into the job file or connections.yml.",
            )
        if urlsplit(self.stage_location).scheme != "https":
            raise UsageError("stage_location is the address of stage_url that begins with https://.")


def login_arguments(config: FabricConfig) -> dict[str, Any]:
    """Return what the driver takes (learn.microsoft.com, "Connection strings for mssql-python")."""
    methods = {
        "service_principal": "ActiveDirectoryServicePrincipal",
        "managed_identity": "ActiveDirectoryMSI",
        "default": "ActiveDirectoryDefault",
    }
    found: dict[str, Any] = {
        "server": config.server,
        "database": config.database,
        "authentication": methods[config.method],
        "encrypt": "yes",
        "autocommit": True,
    }
    if config.client_id and config.method != "default":
        found["uid"] = config.client_id
    if config.method == "service_principal":
        found["pwd"] = config.client_secret
    return found


def store_options(config: FabricConfig) -> dict[str, Any]:
    """Return what the object store takes: the same login, and the account where stage_url does not name it."""
    found: dict[str, Any] = {}
    account, _, rest = (urlsplit(config.stage_location).hostname or "").partition(".")
    if urlsplit(config.stage_url).scheme in ("az", "azure") and rest.endswith("core.windows.net"):
        found["account_name"] = account
    if config.method == "service_principal":
        found |= {"tenant_id": config.tenant_id, "client_id": config.client_id, "client_secret": config.client_secret}
    elif config.method == "managed_identity" and config.client_id:
        found["client_id"] = config.client_id
    return found


def contact_error(error: Any, *, contacted: bool) -> RunnerError:
    """Return what a failed login means."""
    text = _words(error)
    if contacted:
        return DestinationDown(f"Fabric: {text}")
    if "load the driver" in text:
        return UsageError(
            f"Fabric's driver cannot be loaded: {text}",
            guidance="Install the system packages it needs: learn.microsoft.com, Install mssql-python.",
        )
    if _NO_DATABASE.search(text):
        return DatabaseMissing(f"Fabric refused us: {text}")
    if _REJECTED.search(text):
        return CredentialsRejected(f"Fabric refused us: {text}")
    return Unreachable(f"Fabric does not answer: {text}")


def translated(error: Any) -> RunnerError:
    """Return what a failed statement means."""
    text = _words(error)
    if _BUSY.search(text):
        return DestinationBusy(
            f"Fabric: {text}", guidance="Others changed the same table at the same time; run the same command again."
        )
    if _ALTER.search(text):
        return SchemaConflict(f"Fabric cannot change the column's type: {text}", guidance=CHANGED)
    if _FORBIDDEN.search(text):
        return ReadOnly(f"Fabric: {text}")
    if _DOWN.search(text):
        return DestinationDown(f"Fabric: {text}")
    return DestinationError(f"Fabric: {text}")


def _words(error: Any) -> str:
    return redact(" ".join(str(getattr(error, "ddbc_error", "") or error).split()))
