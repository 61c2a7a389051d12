"""References to secrets: ``${ENV}``, ``${ENV:-default}``, ``${file:/path}``, ``${secret:NAME}``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runner.errors import SecretMissing, UsageError
from runner.plugins import load_plugins

_REFERENCE = re.compile(r"\$\$|\$\{([^}]*)\}")
_URL_PASSWORD = re.compile(r"(\w+://[^:/@\s]*):([^@/\s]+)@")
_PAIR = re.compile(
    r"(?i)(?<![/\w])(\w*(?:password|passwd|pwd|token|secret|api_?key))(['\"]?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,;&}]+)"
)
_SECRET_NAME = re.compile(r"(?i)pass|pwd|token|secret|key|cred")
_seen: set[str] = set()


def resolve(value: Any, environ: Mapping[str, str]) -> Any:
    """Replace every reference in a value, deeply.

    Raises:
        SecretMissing: A reference leads nowhere.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: _one(match, environ), value)
    if isinstance(value, dict):
        return {key: resolve(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, environ) for item in value]
    return value


def _one(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match[0] == "$$":
        return "$"
    body = match[1]
    kind, _, rest = body.partition(":")
    if kind == "file":
        try:
            found = Path(rest).read_text("utf-8").rstrip("\n")
        except OSError as error:
            raise SecretMissing(f"${{{body}}}: {error.strerror}.") from None
    elif kind == "secret":
        found = _from_plugins(rest)
    elif rest.startswith("-"):
        found = environ.get(kind) or rest[1:]
    else:
        if body not in environ:
            raise SecretMissing(f"${{{body}}}: the variable is not set.", variable=body)
        found = environ[body]
    if kind in ("file", "secret") or _SECRET_NAME.search(kind):
        _seen.add(found)
    remember(found)
    return found


def _from_plugins(name: str) -> str:
    for plugin in load_plugins("runner.secrets").values():
        found = plugin(name)
        if found is not None:
            return str(found)
    raise SecretMissing(
        f"${{secret:{name}}}: no secret manager knows it.",
        guidance="Install the extra of your secret manager, or refer to an environment variable.",
    )


def remember(text: str) -> None:
    """Keep the secrets inside a text in mind so that redact() removes them wherever they turn up."""
    for password in _URL_PASSWORD.findall(text):
        _seen.add(password[1])
    for pair in _PAIR.findall(text):
        _seen.add(pair[2].strip("'\""))


def hide(secret: str) -> None:
    """Keep a secret in mind so that redact() removes it wherever it turns up."""
    _seen.update({secret, quote(secret, safe="")})


def redact(text: str) -> str:
    """Remove passwords, tokens and every secret seen so far from a text."""
    text = _URL_PASSWORD.sub(r"\1:***@", text)
    text = _PAIR.sub(r"\1\2***", text)
    for secret in sorted(_seen, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return text


def read_dotenv(folder: Path) -> dict[str, str]:
    """Read ``.env`` in a folder or the nearest one above it, up to the project's root.

    Returns:
        Names and values; an environment variable of the same name wins over them.

    Raises:
        UsageError: It cannot be read.
    """
    for place in (folder, *folder.parents):
        file = place / ".env"
        if file.is_file():
            try:
                return _parse_dotenv(file.read_text("utf-8-sig"))
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise UsageError(
                    f"{file}: it cannot be read: {why}.", guidance="Correct it, or move it away."
                ) from None
        if (place / "pyproject.toml").exists() or (place / ".git").exists():
            break
    return {}


def _parse_dotenv(text: str) -> dict[str, str]:
    values = {}
    for line in text.splitlines():
        name, sign, value = line.strip().removeprefix("export ").partition("=")
        if sign and not name.startswith("#"):
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            values[name.strip()] = value
    return values


def environment(folder: Path) -> dict[str, str]:
    """Return the process's variables over those of ``.env``."""
    return {**read_dotenv(folder), **os.environ}
