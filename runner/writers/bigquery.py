"""BigQuery as a destination: its keys, and the credentials that they name."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from runner.errors import CredentialsRejected, UsageError
from runner.writers.bigquerywriter import BigQueryWriter
from runner.writers.transactional import PROMISES

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

_SCOPES = ("https://www.googleapis.com/auth/bigquery",)
_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address


class BigQueryConfig(BaseModel):
    """The keys of a destination of type bigquery."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str = Field("", description="the project; by default the one of the credentials")
    location: str = Field("", description="where a dataset is made that is missing: EU, US or a region")
    credentials: str = Field(
        "",
        description="a service account key or other credentials as JSON, or base64 of it; by default the application's",
        repr=False,
    )
    credentials_file: str = Field("", description="a file with the credentials, relative to the project")
    api_endpoint: str = Field("", description="another address than Google's: that of an emulator, without credentials")
    partition: str = Field(
        "", description="new tables that have this column of days or times are partitioned by its day"
    )
    cluster: tuple[str, ...] = Field((), max_length=4, description="new tables are clustered by those that they have")
    maximum_bytes_billed: int | None = Field(None, gt=0, description="a query that would be billed for more is refused")


class BigQuery:
    """A project of BigQuery.

    Args:
        options: The keys of the destination in the job file, as BigQueryConfig has them.
        folder: Where a relative path of credentials starts.
        memory: Not used: files are uploaded as they are.
    """

    config_model = BigQueryConfig
    max_name = 300
    promises: ClassVar[dict[str, str]] = {mode: PROMISES[mode] for mode in ("full", "append", "incremental")}
    metered = True
    unproved = ""

    def __init__(self, options: dict[str, Any], *, folder: Path, memory: int) -> None:
        try:
            missing = find_spec("google.cloud.bigquery") is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            raise ModuleNotFoundError(name="google-cloud-bigquery")
        self.config = BigQueryConfig.model_validate(options)
        self._info = credentials_info(self.config, folder)
        self.project = self.config.project or str((self._info or {}).get("project_id", ""))
        if not self.project and self.config.api_endpoint:
            raise UsageError("The destination of type bigquery lacks its project.")

    @staticmethod
    def options_from_dlt(environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the options that dlt's own variables hold (dlthub.com, Google BigQuery)."""
        prefix = "DESTINATION__BIGQUERY"
        found: dict[str, Any] = {}
        if location := environ.get(f"{prefix}__LOCATION"):
            found["location"] = location
        given = {
            key: environ[f"{prefix}__CREDENTIALS__{key.upper()}"]
            for key in ("project_id", "private_key", "client_email")
            if environ.get(f"{prefix}__CREDENTIALS__{key.upper()}")
        }
        if whole := environ.get(f"{prefix}__CREDENTIALS"):
            found["credentials"] = whole
        elif "private_key" in given:
            # Environment variables often carry line ends as two characters.
            key = given["private_key"].replace("\\n", "\n")
            info = {"type": "service_account", "token_uri": _TOKEN_URI, **given, "private_key": key}
            found["credentials"] = json.dumps(info)
        elif "project_id" in given:
            found["project"] = given["project_id"]
        return found

    def describe(self) -> str:
        return f"bigquery {self.project or 'of the application'}"

    def writer(self, dataset: str) -> BigQueryWriter:
        return BigQueryWriter(self.config, self.client, self._info, dataset)

    def client(self, location: str) -> Client:
        """Return a client whose jobs run at a location; empty is wherever their data is.

        Raises:
            CredentialsRejected: There are none, or they cannot be used.
            UsageError: Nothing names a project.
        """
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import bigquery

        endpoint = self.config.api_endpoint
        credentials = _credentials(self._info) if self._info else AnonymousCredentials() if endpoint else None
        try:
            return bigquery.Client(
                project=self.project or None,
                credentials=credentials,
                location=location or None,
                client_options={"api_endpoint": endpoint} if endpoint else None,
            )
        except DefaultCredentialsError as error:
            raise CredentialsRejected(
                "There are no credentials for BigQuery.",
                guidance="Set credentials or credentials_file, or run `gcloud auth application-default login`.",
            ) from error
        except OSError as error:
            raise UsageError(
                "There is no project for BigQuery.", guidance="Set project, or use credentials that name one."
            ) from error


def credentials_info(config: BigQueryConfig, folder: Path) -> dict[str, Any] | None:
    """Return the credentials that a destination names, as Google has them; None where it names none.

    Raises:
        UsageError: They cannot be read.
    """
    try:
        if config.credentials_file:
            text = (folder / config.credentials_file).read_text("utf-8")
        else:
            text = config.credentials.strip()
            if text and not text.startswith("{"):
                text = base64.b64decode("".join(text.split()), validate=True).decode()
        info = json.loads(text) if text else None
        if info is not None and "type" not in info:
            raise ValueError("there is no type in them")
    except (OSError, ValueError, TypeError) as error:
        # What the parser says may hold a part of the key.
        raise UsageError(
            f"The credentials of the destination cannot be read ({type(error).__name__}).",
            guidance="Give the JSON of a service account key, base64 of it, or a file.",
        ) from None
    return info


def _credentials(info: dict[str, Any]) -> Any:
    import google.auth
    from google.oauth2 import service_account

    try:
        if info["type"] == "service_account":
            return service_account.Credentials.from_service_account_info(info, scopes=_SCOPES)
        return google.auth.load_credentials_from_dict(info, scopes=_SCOPES)[0]
    except (google.auth.exceptions.GoogleAuthError, ValueError) as error:
        raise CredentialsRejected(f"The credentials of the destination are none ({type(error).__name__}).") from None
