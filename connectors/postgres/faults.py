"""From SQLSTATE and socket errors to the runner's tree of errors.

Classes are those of https://www.postgresql.org/docs/current/errcodes-appendix.html. What is not
listed is permanent: an unknown error is not worth a second load on the source.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

import asyncpg

from runner.errors import (
    CredentialsRejected,
    DatabaseMissing,
    PermissionMissing,
    RunnerError,
    SourceDown,
    SourceError,
    StatementTooLong,
    TableChanged,
    TableMissing,
    Throttled,
    Undecodable,
    Unreachable,
)
from runner.secrets import redact

# InternalClientError: asyncpg's own state machine when a connection is cut in the middle of a message.
DRIVER_ERRORS = (OSError, EOFError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_PERMANENT: dict[str, type[RunnerError]] = {
    "28000": CredentialsRejected,
    "28P01": CredentialsRejected,
    "3D000": DatabaseMissing,
    "42501": PermissionMissing,
    "42P01": TableMissing,
    "3F000": TableMissing,
    "42703": TableChanged,
}
_DOWN = ("08", "57P0", "58")
_THROTTLED = ("53300", "53400")
_RETRIABLE = ("40001", "40P01", "55P03", "53200", "72000", "25P03", "25P04")


def translate(error: BaseException, *, table: str | None = None) -> RunnerError:
    """Return the runner's error for one of asyncpg, the socket or TLS."""
    text = redact(str(error) or type(error).__name__).rstrip(".")
    if isinstance(error, RunnerError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        return _from_sqlstate(error, text, table)
    if isinstance(error, asyncpg.InterfaceError) and "SSL" not in text and "clos" in text:
        return SourceDown(f"The connection was lost: {text}.", table=table)
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return SourceDown("The source did not answer in time.", table=table)
    if isinstance(error, ssl.SSLError):
        return Unreachable(f"TLS failed: {text}.", guidance="Check sslmode and the certificates.")
    if isinstance(error, OSError | EOFError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return SourceDown(f"The connection was lost: {text}.", table=table)
    return SourceError(f"{type(error).__name__}: {text}.", table=table)


def _from_sqlstate(error: asyncpg.PostgresError, text: str, table: str | None) -> RunnerError:
    state = error.sqlstate or ""
    if "row-level security" in text:
        return PermissionMissing(
            f"{text}.",
            guidance="Rows are hidden from this user: give it BYPASSRLS, or accept it with row_security: true.",
            table=table,
        )
    if state == "22021":
        # The server checks what it sends us: a SQL_ASCII database may hold anything.
        return Undecodable(
            f"{text}.",
            guidance="Repair the values at the source, or leave the column out: columns: {name: drop}.",
            table=table,
        )
    if state in _PERMANENT:
        return _PERMANENT[state](f"{text}.", table=table)
    if state == "57014" and "statement timeout" in text:
        return StatementTooLong(f"{text}.", table=table)
    if state.startswith(_THROTTLED):
        return Throttled(f"{text}.", table=table)
    if isinstance(error, asyncpg.ConnectionDoesNotExistError):
        # The driver's own words for a connection that was cut; a server does not say them.
        return SourceDown(f"The connection was lost: {text}.", table=table)
    if state.startswith((*_DOWN, *_RETRIABLE)) or state == "57014":
        return SourceDown(f"{text}.", table=table)
    advice = "If the table has a `where:`, check it." if state.startswith(("42", "22")) else None
    return SourceError(f"{text} (SQLSTATE {state}).", guidance=advice, table=table)


def translate_contact(error: BaseException, where: str) -> RunnerError:
    """Return the error of the first connection, which names the host and ends the run with exit 2."""
    if isinstance(error, socket.gaierror):
        return Unreachable(f"{where}: no such host.", guidance="Check the host's name.")
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Unreachable(f"{where}: no answer in time.")
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return Unreachable(f"{where}: {redact(error.strerror or str(error))}.")
    found = translate(error)
    if isinstance(found, SourceDown) and not isinstance(error, asyncpg.PostgresError):
        return Unreachable(f"{where}: {found.message}")
    return found
