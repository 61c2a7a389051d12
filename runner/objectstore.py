"""How object stores are opened, and what their errors mean: S3, Google Cloud Storage and Azure, through obstore."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from runner.errors import CredentialsRejected, DatabaseMissing, RunnerError, UsageError
from runner.secrets import redact

_RETRIES = 3
_RETRY_SECONDS = 20
_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|metadata\.google|Account must be specified|MissingAccount")
# S3: "Error responses"; Azure: "Common REST API error codes" and "Blob Storage error codes".
_UNKNOWN = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
}
NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}
_SLOW = {"SlowDown", "ServerBusy", "TooManyRequests", "RequestLimitExceeded"}

Kind = Literal["rejected", "refused", "missing", "full", "slow", "down", "other"]


@dataclass(frozen=True)
class Fault:
    """What an error of a store means.

    Attributes:
        kind: rejected: it does not know the credentials; refused: they may not do that; missing: there is no such
            bucket; slow: it asks for patience; down: no answer, or one that may be another one later.
        answer: The status and the code of its answer; without one, what went wrong.
        error: What is raised, where that is the same for everybody.
    """

    kind: Kind
    answer: str
    error: RunnerError | None = None


@dataclass(frozen=True)
class Opened:
    """A store that was opened.

    Attributes:
        api: The module whose functions take it.
        store: What they take.
        errors: What they raise.
        beaten: What a conditional write raises that came too late.
    """

    api: Any
    store: Any
    errors: tuple[type[Exception], ...]
    beaten: tuple[type[Exception], ...]


def open_store(url: str, config: Mapping[str, Any], *, allow_http: bool = False, timeout: str = "60s") -> Opened:
    """Open a store; nothing is sent yet.

    Args:
        url: ``s3://bucket/prefix``, ``gs://…``, ``az://container/prefix``.
        config: What obstore takes; the environment's variables where it says nothing.
        allow_http: Whether the endpoint may answer without TLS.
        timeout: Of one request.

    Raises:
        UsageError: A wrong option, or the package is missing.
        CredentialsRejected: There are none.
    """
    try:
        import obstore
        from obstore import exceptions as errors
        from obstore import store as stores
    except ImportError as error:
        raise UsageError(
            "Object stores need the package 'obstore'.",
            guidance="Install it: pip install 'orchestra-blueprints[files]'.",
        ) from error
    try:
        # Any: the overloads tell the stores' options apart, which come from a job file here.
        from_url: Any = stores.from_url
        store = from_url(
            url,
            config=dict(config),
            client_options={"allow_http": allow_http, "connect_timeout": "5s", "timeout": timeout},
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
        )
    except (errors.UnknownConfigurationKeyError, ValueError) as error:
        raise UsageError(f"{redact(url)}: {first_line(error)}.") from None
    except errors.BaseError as error:
        found = read_fault(error, redact(url))
        raise found.error or UsageError(f"{redact(url)}: {found.answer}.") from None
    beaten = (errors.AlreadyExistsError, errors.PreconditionError)
    return Opened(obstore, store, (errors.BaseError, FileNotFoundError), beaten)


def read_fault(error: Exception, url: str) -> Fault:
    """Return what an error means; its own text holds requests and answers, and is never shown.

    Args:
        url: What the store is called, without secrets.
    """
    text = str(error)
    status, code = _status(text), error_code(error)
    answer = " ".join(part for part in (status, code) if part)
    if _NO_CREDENTIALS.search(text):
        refusal = CredentialsRejected(
            f"There are no credentials for {url}.",
            guidance="Set those of the store in the environment (S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).",
        )
        return Fault("rejected", answer, refusal)
    if code in _UNKNOWN or status == "401":
        return Fault("rejected", answer, CredentialsRejected(f"{url} rejected the credentials ({answer})."))
    if status == "403":
        return Fault("refused", answer)
    if code in NO_BUCKET or status == "404":
        missing = DatabaseMissing(f"There is no such bucket: {url}.", guidance="Create it, or check its name.")
        return Fault("missing", answer, missing)
    if code in _FULL or status == "507":
        return Fault("full", answer)
    if code in _SLOW or status == "429":
        return Fault("slow", answer)
    if not status or status.startswith("5") or status == "408":
        return Fault("down", answer or first_line(error))
    return Fault("other", answer)


def error_code(error: Exception) -> str:
    """Return the code in the answer of a store, if there is one."""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found[1] if found else ""


def first_line(error: Exception) -> str:
    """Return the end of an error's first line: what went wrong, after which request it was."""
    line = str(error).partition("\n")[0].rpartition(" - ")[2]
    return redact(line).rstrip(".")


def _status(text: str) -> str:
    found = re.search(r"status code: (\d{3})", text)
    return found[1] if found else ""
