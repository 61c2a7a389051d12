"""What an organisation holds: records, the recycle bin, who may read what.

Facts: developer.salesforce.com, Object Reference, "ID Field Type" (15 characters, and three more that carry their
case) and "System Fields" (times are kept to the second; a delete moves SystemModstamp on).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.testing.salesforce.fields import COMPOUND
from connectors.testing.salesforce.objects import OBJECTS, SObject

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECK = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"

Record = dict[str, Any]


def make_id(prefix: str, number: int) -> str:
    """Return the id of 18 characters of the n-th record."""
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return long_id(f"{prefix}5g0000{digits.rjust(6, '0')}")


def long_id(short: str) -> str:
    """Return an id of 15 characters with the three that carry its case."""
    parts = [short[place : place + 5] for place in (0, 5, 10)]
    return short + "".join(_CHECK[sum(char.isupper() << bit for bit, char in enumerate(part))] for part in parts)


class Org:
    """The records of one organisation.

    Args:
        now: The time, in UTC.
    """

    def __init__(self, now: Callable[[], datetime], objects: Iterable[SObject] = OBJECTS) -> None:
        self.now = now
        self.objects = {one.name.lower(): one for one in objects}
        self.records: dict[str, dict[str, Record]] = {one.name: {} for one in self.objects.values()}
        self.hidden: set[tuple[str, str]] = set()
        self._numbers = itertools.count(1)
        self.user = self.insert("User", Name="Integration", Username="runner@example.com")

    def object_named(self, name: str) -> SObject | None:
        """Return an object; names have no case."""
        found = self.objects.get(name.lower())
        return None if found is None or (found.name, "") in self.hidden else found

    def hide(self, name: str, *fields: str) -> None:
        """Take the right to read fields away from the user; the whole object without any."""
        self.hidden |= {(name, one) for one in fields} if fields else {(name, "")}

    def show(self, name: str, *fields: str) -> None:
        """Give the right back."""
        self.hidden -= {(name, one) for one in fields} if fields else {(name, "")}

    def insert(self, name: str, **values: Any) -> str:
        """Add a record and return its id."""
        kind = self.objects[name.lower()]
        now = values.pop("at", None) or self._second()
        user = getattr(self, "user", None) or make_id("005", 1)
        record: Record = {one.name: _blank(one.type) for one in kind.fields if one.type not in COMPOUND}
        record |= {"Id": make_id(kind.prefix, next(self._numbers)), "OwnerId": user}
        record |= {"CreatedDate": now, "LastModifiedDate": now, "SystemModstamp": now}
        record |= {"CreatedById": user, "LastModifiedById": user, **values}
        record = {key: value for key, value in record.items() if key.lower() in kind.by_name}
        if unknown := [key for key in values if key.lower() not in kind.by_name]:
            raise KeyError(f"{name} has no field {unknown[0]}")
        self._settle(record)
        self.records[kind.name][record["Id"]] = record
        return str(record["Id"])

    def update(self, record_id: str, **values: Any) -> None:
        """Change a record."""
        now = values.pop("at", None) or self._second()
        record = self._find(record_id)
        record |= {"LastModifiedDate": now, "SystemModstamp": now, **values}
        self._settle(record)

    def delete(self, record_id: str, *, at: datetime | None = None) -> None:
        """Move a record to the recycle bin."""
        self.update(record_id, IsDeleted=True, **({"at": at} if at else {}))

    def purge(self, record_id: str) -> None:
        """Take a record out of the recycle bin for good."""
        del self.records[self._kind(record_id).name][record_id]

    def readable(self, kind: SObject) -> list[Any]:
        """Return the fields that the user may read."""
        return [one for one in kind.fields if (kind.name, one.name) not in self.hidden]

    def rows(self, kind: SObject, *, deleted: bool) -> list[Record]:
        """Return the records of an object by id."""
        rows = sorted(self.records[kind.name].items())
        return [record for _, record in rows if deleted or not record.get("IsDeleted")]

    def get(self, record_id: str) -> tuple[SObject, Record] | None:
        """Return a record and its object, by an id of 15 or 18 characters."""
        whole = record_id if len(record_id) == 18 else long_id(record_id)
        kind = next((one for one in self.objects.values() if whole.startswith(one.prefix)), None)
        record = self.records[kind.name].get(whole) if kind else None
        return (kind, record) if kind and record is not None else None

    def _kind(self, record_id: str) -> SObject:
        return next(one for one in self.objects.values() if record_id.startswith(one.prefix))

    def _find(self, record_id: str) -> Record:
        return self.records[self._kind(record_id).name][record_id]

    def _second(self) -> datetime:
        return self.now().astimezone(UTC).replace(microsecond=0)

    @staticmethod
    def _settle(record: Record) -> None:
        """Keep values as the database does: no empty texts, times to the second, a person's name made of its parts."""
        for key, value in record.items():
            if value == "":
                record[key] = None
            elif isinstance(value, datetime):
                record[key] = value.astimezone(UTC).replace(microsecond=0)
        if "LastName" in record:
            record["Name"] = " ".join(filter(None, (record.get("FirstName"), record["LastName"])))


def _blank(kind: str) -> Any:
    return False if kind == "boolean" else None


class Sundial:
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def __call__(self) -> datetime:
        return self._now

    def move(self, **span: float) -> datetime:
        """Move on and return the new time."""
        self._now += timedelta(**span)
        return self._now
