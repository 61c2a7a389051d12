"""Linked connections: what Orchestra hands a Python task of the connections that were linked to it.

One variable a field, ``<INTEGRATION>__<CONNECTION_ID>__<FIELD>``, upper case, whatever is no letter or digit as ``_``;
lists and mappings as JSON (orchestra-sdk, README, "Linked connections").
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from runner.errors import UsageError
from runner.secrets import remember

# What an integration is called where it is not called as our type.
_INTEGRATIONS = {"bigquery": "GCP_BIG_QUERY", "fabric": "FABRIC_SYNAPSE"}
# Fields that we call otherwise.
_FIELDS = {
    "username": "user",
    "account_identifier": "account",
    "account_name": "account",
    "database_name": "database",
    "dbname": "database",
    "project_id": "project",
    "passphrase": "private_key_passphrase",
}
_VARIABLE = re.compile(r"([A-Z0-9]+(?:_[A-Z0-9]+)*)__([A-Z0-9]+(?:_[A-Z0-9]+)*)__([A-Z0-9_]+)")
# dlt's own variables have three parts too.
_NOT_OURS = ("DESTINATION", "SOURCES")


def linked_options(kind: str, keys: frozenset[str], environ: Mapping[str, str], *, wanted: str = "") -> dict[str, Any]:
    """Return the options of a source or destination that a linked connection holds.

    Args:
        kind: The type, as in a job file.
        keys: The keys that the type takes; fields that are none of them are left out.
        wanted: The id of the connection, where several are linked.

    Raises:
        UsageError: Several are linked and none is named, the named one is not, or it has nothing for us.
    """
    integration = _INTEGRATIONS.get(kind, kind.upper())
    found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    fields: defaultdict[str, list[str]] = defaultdict(list)
    for name, text in environ.items():
        parts = _VARIABLE.fullmatch(name)
        if parts is None or parts[1] != integration or parts[1] in _NOT_OURS:
            continue
        key = _FIELDS.get(parts[3].lower(), parts[3].lower())
        fields[parts[2]].append(parts[3])
        if key in keys and text:
            remember(f"{key}={text}")
            found[parts[2]][key] = _value(text)
    if fields and not found:
        # With none of them a driver would look for a server of its own choice.
        one, names = next(iter(fields.items()))
        raise UsageError(
            f"The linked connection {one} of {integration} has no field that {kind} takes: {', '.join(sorted(names))}.",
            guidance=f"It takes {', '.join(sorted(keys))}: set SOURCE_CREDS or DEST_CREDS as JSON instead.",
        )
    if wanted:
        found = defaultdict(dict, {name: one for name, one in found.items() if name == _spelled(wanted)})
        if not found:
            raise UsageError(
                f"The connection {wanted!r} of {integration} is not linked to this task.",
                guidance="Link it in Orchestra, or correct its name.",
            )
    if len(found) > 1:
        raise UsageError(
            f"Several connections of {integration} are linked: {', '.join(sorted(found))}.",
            guidance="Name one: SOURCE_CONNECTION or DEST_CONNECTION.",
        )
    return next(iter(found.values()), {})


def _spelled(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", name.upper())


def _value(text: str) -> Any:
    if text[0] in "[{":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
