"""Secrets under the names that dlt gives them: variables, and ``.dlt/secrets.toml`` as the variables it stands for.

Facts: dlthub.com, "Credentials": ``[destination.snowflake.credentials]`` with a key ``password`` is the variable
DESTINATION__SNOWFLAKE__CREDENTIALS__PASSWORD, and a variable comes before the file.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.secrets import environment, hide, remember

_FILE = Path(".dlt") / "secrets.toml"
_DESTINATION = re.compile(r"DESTINATION__([A-Z0-9_]+?)__[A-Z0-9_]+")
_SECRET = re.compile(r"(?i)(pass\w*|pwd|token|secret|key|credentials?|connection_string)$")


def dlt_environment(folder: Path) -> dict[str, str]:
    """Return the variables of the process, of ``.env``, and those that ``.dlt/secrets.toml`` stands for.

    Args:
        folder: Where both files are looked for, and above it up to the project's root.

    Raises:
        UsageError: The file is no TOML, or may not be read.
    """
    found = {**_read(folder), **environment(folder)}
    for name, value in found.items():
        if name.startswith(("DESTINATION__", "ORCHESTRA_")) and _SECRET.search(name) and value:
            _hide(value)
    return found


def destination_types(environ: Mapping[str, str]) -> list[str]:
    """Return the types of destinations that variables of dlt hold something for."""
    found = (_DESTINATION.fullmatch(name) for name, value in environ.items() if value)
    return sorted({match[1].lower() for match in found if match is not None})


def _read(folder: Path) -> dict[str, str]:
    for place in (folder, *folder.parents):
        file = place / _FILE
        if file.is_file():
            try:
                return dict(_flat("", tomllib.loads(file.read_text("utf-8"))))
            except OSError as error:
                raise UsageError(f"{file} cannot be read: {error.strerror}.") from None
            except ValueError as error:
                # Its words could quote a line that holds a secret.
                where = re.search(r"\(at .*\)", str(error))
                raise UsageError(f"{file} is no TOML{' ' + where[0] if where else ''}.") from None
        if (place / "pyproject.toml").exists() or (place / ".git").exists():
            break
    return {}


def _flat(prefix: str, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        name = prefix + key.upper()
        if isinstance(value, Mapping):
            yield from _flat(f"{name}__", value)
        else:
            yield name, value if isinstance(value, str) else json.dumps(value, default=str)


def _hide(value: str) -> None:
    if "://" in value:
        # Of an address only the password is secret.
        remember(value)
    else:
        hide(value)
