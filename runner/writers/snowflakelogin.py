"""How the runner logs in to Snowflake, and what its refusals mean."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from runner.errors import (
    CredentialsRejected,
    DatabaseMissing,
    DestinationBusy,
    DestinationDown,
    DestinationError,
    ReadOnly,
    RunnerError,
    Unreachable,
    UsageError,
)
from runner.secrets import redact

_LOGIN_SECONDS = 30
_ANSWER_SECONDS = 60
_LOCK_SECONDS = 600


class SnowflakeConfig(BaseModel):
    """The keys of a destination of type snowflake."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: str = Field("", description="account identifier, as in <account>.snowflakecomputing.com")
    user: str = Field("", description="the user; not needed with a workload identity")
    password: str = Field("", description="password, or a programmatic access token", repr=False)
    private_key: str = Field("", description="key pair: the private key as PEM, or base64 of PEM or DER", repr=False)
    private_key_file: str = Field("", description="key pair: a file with the private key, relative to the project")
    private_key_passphrase: str = Field("", description="key pair: what the private key is encrypted with", repr=False)
    token: str = Field("", description="an OAuth access token, or the token of a workload identity", repr=False)
    workload_identity: Literal["aws", "azure", "gcp", "oidc"] | None = Field(
        None, description="the provider of a workload identity"
    )
    role: str = ""
    warehouse: str = ""
    database: str = Field("", description="the database that holds the dataset's schema")
    stage: str = Field(
        "", description="an external stage, as DATABASE.SCHEMA.STAGE; by default files go to an internal one"
    )
    stage_url: str = Field("", description="where the external stage is: s3://, gs:// or az:// and a prefix")
    host: str = Field("", description="another host than the account's own")
    port: int | None = None
    protocol: Literal["http", "https"] = "https"


def login_arguments(config: SnowflakeConfig, dataset: str, folder: Path) -> dict[str, Any]:
    """Return what the driver takes (docs.snowflake.com, Python Connector API, connect)."""
    found: dict[str, Any] = {
        "account": config.account,
        "user": config.user or None,
        "role": config.role or None,
        "warehouse": config.warehouse or None,
        "database": config.database,
        "schema": dataset.upper(),
        "host": config.host or None,
        "port": config.port,
        "protocol": config.protocol,
        "application": "orchestra_runner",
        "autocommit": True,
        "login_timeout": _LOGIN_SECONDS,
        "network_timeout": _ANSWER_SECONDS,
        "session_parameters": {
            "TIMEZONE": "UTC",
            "LOCK_TIMEOUT": _LOCK_SECONDS,
            "QUERY_TAG": json.dumps({"application": "orchestra-runner", "dataset": dataset}),
            "CLIENT_TELEMETRY_ENABLED": False,
        },
    }
    if config.workload_identity:
        found |= {
            "authenticator": "WORKLOAD_IDENTITY",
            "workload_identity_provider": config.workload_identity.upper(),
            "token": config.token or None,
        }
    elif config.token:
        found |= {"authenticator": "oauth", "token": config.token}
    elif config.private_key or config.private_key_file:
        found["private_key"] = _der(config, folder)
    else:
        found["password"] = config.password
    return {key: value for key, value in found.items() if value is not None}


def _der(config: SnowflakeConfig, folder: Path) -> bytes:
    """Return the private key as the driver takes it: PKCS #8 in DER.

    Raises:
        UsageError: It cannot be read, or the passphrase does not open it.
    """
    from cryptography.hazmat.primitives import serialization

    try:
        data = (folder / config.private_key_file).read_bytes() if config.private_key_file else _key_bytes(config)
        passphrase = config.private_key_passphrase.encode() or None
        read = serialization.load_pem_private_key if b"-----BEGIN" in data else serialization.load_der_private_key
        key = read(data, passphrase)
    except (OSError, ValueError, TypeError) as error:
        # What the library says may hold a part of the key.
        raise UsageError(
            f"The private key of the destination cannot be read ({type(error).__name__}).",
            guidance="Give it as PEM, as base64 of it, or as a file, and its passphrase if it is encrypted.",
        ) from None
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_bytes(config: SnowflakeConfig) -> bytes:
    text = config.private_key.strip()
    if "-----BEGIN" in text:
        # Environment variables often carry line ends as two characters.
        return text.replace("\\n", "\n").encode()
    return base64.b64decode("".join(text.split()), validate=True)


def options_of_uri(uri: str) -> dict[str, Any]:
    """Return the options of a URI: snowflake://user:password@account/database?warehouse=…&role=…."""
    parts = urlsplit(uri)
    query = dict(parse_qsl(parts.query))
    found: dict[str, Any] = {
        "account": parts.hostname or "",
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.strip("/").split("/")[0],
        **{key: query[key] for key in ("warehouse", "role", "token", "private_key") if key in query},
    }
    return {key: value for key, value in found.items() if value}


def contact_error(error: Any, *, contacted: bool) -> RunnerError:
    """Return what a failed login means."""
    text = _words(error)
    if contacted:
        return DestinationDown(f"Snowflake: {text}")
    # docs.snowflake.com: 250001 could not connect, 2503xx the network, 390100 a wrong user or password.
    number = int(getattr(error, "errno", 0) or 0)
    if number in (390100, 390144, 390101, 394304, 250003) or "password" in text.lower() or "JWT" in text:
        return CredentialsRejected(f"Snowflake refused us: {text}")
    if number in (390201, 390189):
        return DatabaseMissing(f"Snowflake refused us: {text}")
    return Unreachable(f"Snowflake does not answer: {text}")


def translated(error: Any) -> RunnerError:
    """Return what a failed statement means."""
    text = _words(error)
    number = int(getattr(error, "errno", 0) or 0)
    # 390114 a session that ran out; 250001 to 250007, 253xxx the network.
    if number in (390114, 390112, 390111) or 250000 <= number < 251020:
        return DestinationDown(f"Snowflake: {text}")
    if number in (625, 628):  # the lock could not be had, or the statement was aborted for a deadlock
        return DestinationBusy(f"Snowflake: {text}")
    if number in (3001, 3041):
        return ReadOnly(f"Snowflake: {text}")
    if number in (606, 57014):
        return DestinationError(f"Snowflake: {text}", guidance="Name a warehouse that the role may use.")
    return DestinationError(f"Snowflake: {text}")


def _words(error: Any) -> str:
    return redact(" ".join(str(getattr(error, "msg", None) or error).split()))
