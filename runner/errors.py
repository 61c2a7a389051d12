"""The one tree of errors.

::

    RunnerError
    ├── UsageError                nothing could start (exit 2)
    │   ├── JobFileError          a wrong key or value, with its line
    │   ├── NotYet                a known key that this version does not implement
    │   ├── SecretMissing         a reference to a secret that is not there
    │   ├── NameCollision         two tables with one name at the destination
    │   └── LockDrift             the source is not what the lock file says
    ├── ContactError              a system refused us at first contact (exit 2)
    │   ├── Unreachable           no answer at that host and port
    │   ├── CredentialsRejected   it answered and said no
    │   ├── DatabaseMissing       the database or file does not exist
    │   ├── SourceRefused         the source cannot be used
    │   └── DestinationRefused    the destination cannot be used
    ├── TryAgain                  not finished, try again (exit 3)
    │   ├── Busy                  another process owns the job or the table
    │   ├── Interrupted           a signal stopped the run
    │   ├── Parked                given up until a known time
    │   └── NoEvent               nothing has come before the deadline
    ├── SourceError               reading failed (the table is recorded as failed)
    │   ├── SourceDown            connection lost or refused; a retry can help
    │   │   └── SnapshotLost      the session that held the snapshot is gone
    │   ├── SourceBusy            another program holds the source; a retry can help
    │   ├── Throttled             asked to slow down, for a known time
    │   ├── StatementTooLong      a statement ran into its time-out
    │   ├── TableMissing          no such table
    │   ├── TableChanged          columns or storage changed since the plan
    │   │   └── TableWidened      rows came that do not fit the columns inferred so far
    │   ├── RequestRefused        the source understood the request and said no
    │   ├── PermissionMissing     a grant is missing
    │   └── Undecodable           a value that cannot arrive as it left
    ├── DestinationError          writing failed
    │   ├── DestinationDown       connection lost or refused; a retry can help
    │   ├── DestinationBusy       another writer holds the dataset; a retry can help
    │   ├── ReadOnly              the destination cannot be written
    │   ├── TableLocked           somebody holds the table for too long
    │   ├── DiskFull              no space left
    │   ├── LeaseLost             another run took the table over
    │   ├── NotOurs               the table belongs to somebody else
    │   ├── KeyNotUnique          the merge key is not a key
    │   ├── TooManyDeleted        more rows are gone at the source than the table allows
    │   └── SchemaConflict        a column changed in a way that cannot be merged
    ├── SensorError               a sensor could not look
    │   └── PollTimedOut          it did not end before its deadline
    ├── DeliveryError             what an event asks for was not done
    │   ├── NotDelivered          nothing happened; it can be sent again
    │   ├── DeliveryRefused       nothing happened, and nothing will
    │   └── OutcomeUnknown        nobody knows whether it happened
    ├── SpoolFull                 the spool would pass limits.disk
    ├── RetryBudgetSpent          too many retries against one source
    ├── VerifyFailed              source and destination differ
    └── LedgerDamaged             the ledger cannot be read
"""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import Any, ClassVar


class RunnerError(Exception):
    """Something went wrong."""

    guidance: ClassVar[str] = ""
    retriable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    # Whether it was tried again as often as the retry policy allows: whoever is around does not begin again.
    tried: bool = False

    def __init__(self, message: str | None = None, *, guidance: str | None = None, **context: Any) -> None:
        """Keep what happened, what to do about it, and where.

        Args:
            message: What happened; the class's docstring by default. Never a secret.
            guidance: What to do about it, when the class's own advice is too general.
            **context: Names that say where (table, host, line). Never a secret.
        """
        self.message = message or (inspect.getdoc(type(self)) or "").split("\n")[0]
        self.advice = guidance if guidance is not None else self.guidance
        self.context = {key: value for key, value in context.items() if value is not None}
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def record(self) -> dict[str, Any]:
        """Return the error as the ledger and the report keep it."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "guidance": self.advice,
            "retriable": self.retriable,
            "context": {key: str(value) for key, value in self.context.items()},
        }


class UsageError(RunnerError):
    """The command cannot start as it was given."""

    exit_code = 2


class JobFileError(UsageError):
    """The job file is wrong."""

    guidance = "Correct it and run the command again."


class NotYet(UsageError):
    """This version does not implement that yet."""

    guidance = "Remove the key or choose another value; it is refused rather than ignored."


class SecretMissing(UsageError):
    """A reference to a secret leads nowhere."""

    guidance = "Set the variable, write it into .env beside the job file, or give a default: ${NAME:-default}."


class NameCollision(UsageError):
    """Two tables would have the same name at the destination."""

    guidance = "Give one of them another name with `as:`, or a template with {schema}."


class LockDrift(UsageError):
    """The source is not what the lock file says."""

    guidance = "Look at the difference, then run `runner plan JOB --lock` to accept it."


class ContactError(RunnerError):
    """A system refused us at first contact."""

    exit_code = 2


class Unreachable(ContactError):
    """Nothing answers at that address."""

    guidance = "Check host and port, and that a firewall lets you through."


class CredentialsRejected(ContactError):
    """The user or the password was rejected."""

    guidance = "Check the user and the password that the connection refers to."


class DatabaseMissing(ContactError):
    """The database does not exist."""

    guidance = "Check the name of the database."


class SourceRefused(ContactError):
    """The source cannot be used."""

    guidance = "`runner doctor JOB` looks at it more closely."


class DestinationRefused(ContactError):
    """The destination cannot be used."""

    guidance = "`runner doctor JOB` looks at it more closely."


class TryAgain(RunnerError):
    """Not finished; try again."""

    exit_code = 3


class Busy(TryAgain):
    """Another process is at work here."""

    guidance = "Wait for it to end, or stop it; then run the same command again."


class Interrupted(TryAgain):
    """The run was interrupted."""

    guidance = "Run the same command again: it goes on where it stopped."


class Parked(TryAgain):
    """The table waits for a known time."""

    guidance = "Run the same command again after that time."

    def __init__(self, resume_at: datetime, message: str | None = None, **context: Any) -> None:
        self.resume_at = resume_at
        super().__init__(message or f"Parked until {resume_at:%Y-%m-%d %H:%M:%S} UTC.", **context)


class NoEvent(TryAgain):
    """No event has come."""

    guidance = "Run the same command again, wait longer with --for, or take it for done with --soft."


class SourceError(RunnerError):
    """Reading from the source failed."""


class SourceDown(SourceError):
    """The connection to the source was lost."""

    guidance = "It was tried again as `retry:` allows; check the server, then run the same command again."
    retriable = True


class SnapshotLost(SourceDown):
    """The session that held the snapshot is gone; a new epoch begins."""


class SourceBusy(SourceError):
    """Another program holds the source."""

    guidance = "Close the other program that has it open, or let it end; it is asked again."
    retriable = True


class Throttled(SourceError):
    """The source asked us to slow down."""

    guidance = "Lower limits.connections or limits.rate, or run again later."
    retriable = True

    def __init__(self, message: str | None = None, *, retry_after: float | None = None, **context: Any) -> None:
        self.retry_after = retry_after
        super().__init__(message, **context)


class StatementTooLong(SourceError):
    """A statement ran into its time-out."""

    guidance = "Make chunks smaller (limits.chunk_rows) or raise statement_timeout of the source."
    retriable = True


class TableMissing(SourceError):
    """The table does not exist."""

    guidance = "Check the name; `runner plan JOB` lists what the source shows to this user."


class TableChanged(SourceError):
    """The table changed since it was planned."""

    guidance = "Run the same command again: the table is planned anew."


class TableWidened(TableChanged):
    """Rows came that do not fit the columns that were inferred from those before."""


class RequestRefused(SourceError):
    """The source understood the request and refused it."""

    guidance = "Its own message says why; check the options of the source and of the table."


class PermissionMissing(SourceError):
    """The user may not read this."""

    guidance = "Grant it: `runner doctor JOB` prints the statements."


class Undecodable(SourceError):
    """A value cannot arrive as it left."""

    guidance = "Move the column as text (columns: {name: text}), or set `special: 'null'` for the table."


class DestinationError(RunnerError):
    """Writing to the destination failed."""


class DestinationDown(DestinationError):
    """The connection to the destination was lost."""

    guidance = "It was tried again as `retry:` allows; check the server, then run the same command again."
    retriable = True


class DestinationBusy(DestinationError):
    """Another process holds the destination."""

    guidance = "Close the other program that has it open, then run the same command again."
    retriable = True


class ReadOnly(DestinationError):
    """The destination cannot be written."""

    guidance = "Check the path and its permissions, or the grants of the user."


class TableLocked(DestinationError):
    """Somebody holds the table at the destination for too long."""

    guidance = "A long query reads it, or another session changes it; run the same command again with --failed."


class DiskFull(DestinationError):
    """No space is left."""

    guidance = "Free some space and run the same command again: what is loaded stays loaded."


class LeaseLost(DestinationError):
    """Another run took the table over; nothing of this run was published."""

    guidance = "Let the other run end; `runner runs` shows it."


class NotOurs(DestinationError):
    """The table exists at the destination and was not made by this source."""

    guidance = "Choose another name with `as:` or another dataset, or say `adopt: true` to replace it."


class KeyNotUnique(DestinationError):
    """The merge key is not unique in the source."""

    guidance = "Name the columns of a real key with `key:`, or use `mode: full`."


class TooManyDeleted(DestinationError):
    """More rows are gone at the source than max_delete allows."""

    guidance = "Look at the source; if they are really gone, run the same command with --yes, or raise max_delete."


class SchemaConflict(DestinationError):
    """A column changed in a way that cannot be merged."""

    guidance = "Run it once with --full-refresh, or give the table another name with `as:`."


class SensorError(RunnerError):
    """A sensor could not look."""


class PollTimedOut(SensorError):
    """The poll did not end before its deadline."""

    guidance = "Raise `timeout:` of the sensor, or look at why the system answers so slowly."
    retriable = True


class DeliveryError(RunnerError):
    """What an event asks for was not done."""


class NotDelivered(DeliveryError):
    """Nothing happened; it can be sent again."""

    guidance = "It is tried again as `attempts:` of the action allows; look at the target."
    retriable = True

    def __init__(
        self, message: str | None = None, *, retry_after: float | None = None, patient: bool = False, **context: Any
    ) -> None:
        """Keep when to send it again.

        Args:
            patient: Whether it only waits for its turn, which does not count as an attempt.
        """
        self.retry_after = retry_after
        self.patient = patient
        super().__init__(message, **context)


class DeliveryRefused(DeliveryError):
    """Nothing happened, and nothing will."""

    guidance = "Correct what the message says; `runner sensors FILE --resend RUN_KEY` sends it again."


class OutcomeUnknown(DeliveryError):
    """Nobody knows whether it happened."""

    guidance = "Look at the target; then `runner sensors FILE --resend RUN_KEY`, or --settle RUN_KEY."


class SpoolFull(RunnerError):
    """The spool would grow past limits.disk."""

    guidance = "Raise limits.disk, or make chunks smaller with limits.chunk_rows."
    retriable = True


class RetryBudgetSpent(RunnerError):
    """Too many retries against one source; it is most likely down."""

    guidance = "Check the source, then run the same command again."


class VerifyFailed(RunnerError):
    """Source and destination differ; the table was not published."""

    guidance = "Run the same command again; if it happens twice, report it with the run's folder."


class LedgerDamaged(RunnerError):
    """The ledger cannot be read."""

    guidance = "Start over with --full-refresh, or restore the run's folder."


def at_first_contact(error: SourceError) -> ContactError:
    """Return what an error of the source means where nothing has started yet (exit 2)."""
    refused = Unreachable if isinstance(error, SourceDown) else SourceRefused
    return refused(f"The source: {error.message}", guidance=error.advice, **error.context)
