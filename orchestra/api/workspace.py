"""A workspace of Orchestra: where its API is, and who we are there.

Facts: Orchestra docs, "API" (base URL, bearer key of one workspace, the header that names an account) and the stages
that its own clients know by ORCHESTRA_ENV.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlsplit

from runner.errors import SecretMissing, UsageError
from runner.secrets import environment, hide, redact

_PATH = "/api/engine/public"
_STAGES = ("app", "stage", "dev")


@dataclass(frozen=True)
class Workspace:
    """Where requests go, and with which key.

    Attributes:
        base_url: The address that paths of the API follow, without a slash at its end.
        api_key: Empty where none is needed.
        account: Which account is meant, for a token that covers several.
    """

    base_url: str
    api_key: str = field(repr=False)
    account: str | None = None

    def __post_init__(self) -> None:
        if self.api_key:
            hide(self.api_key)

    @property
    def host(self) -> str:
        """The address of the user interface."""
        return self.base_url.removesuffix(_PATH)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return urlsplit(self.base_url).netloc

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries; never printed."""
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {**key, "User-Agent": "orchestra-blueprints"}

    @property
    def account_headers(self) -> dict[str, str]:
        """What names the account, for everything but the list of accounts."""
        return {"X-Orchestra-Account-Id": self.account} if self.account else {}

    @property
    def system(self) -> tuple[str | None, ...]:
        """What shares limits, a pause and connections."""
        return ("orchestra", self.base_url, self.api_key, self.account)

    def run_url(self, run: str) -> str:
        """Return the page of a pipeline run."""
        return f"{self.host}/pipeline-runs/{quote(run, safe='')}/lineage"

    @classmethod
    def of(
        cls,
        *,
        api_key: str | None,
        base_url: str | None = None,
        account: str | None = None,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
        keyless: bool = False,
    ) -> Workspace:
        """Return the workspace that options name, and the environment where they do not.

        Args:
            environ: Where ORCHESTRA_API_KEY (or ORCHESTRA_API_TOKEN), ORCHESTRA_BASE_URL, ORCHESTRA_ENV and
                ORCHESTRA_ACCOUNT_ID are looked up; by default the variables of the process, and ``.env``.
            folder: Where ``.env`` is looked for; the working directory by default.
            keyless: Whether it works without a key too: Orchestra checks definitions for everybody.

        Raises:
            SecretMissing: There is no key.
            UsageError: The address is none.
        """
        look = _lookup(environ, folder)
        key = api_key or look("ORCHESTRA_API_KEY") or look("ORCHESTRA_API_TOKEN") or ""
        if not key and not keyless:
            raise SecretMissing(
                "There is no API key for Orchestra.",
                guidance="Set ORCHESTRA_API_KEY or ORCHESTRA_API_TOKEN, here or in .env; where a file has an api_key, "
                "it may be ${NAME_OF_A_VARIABLE}. "
                "A key is made in Orchestra under Settings, API Keys.",
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            hide(key)
            raise UsageError(
                "The API key for Orchestra holds spaces, line breaks or letters that no key has.",
                guidance="Copy it again: a part of something else came with it.",
            )
        stage = look("ORCHESTRA_ENV") or "app"
        address = base_url or look("ORCHESTRA_BASE_URL")
        if not address:
            if stage not in _STAGES:
                raise UsageError(f"ORCHESTRA_ENV is {stage!r}.", guidance=f"Known: {', '.join(_STAGES)}.")
            address = f"https://{stage}.getorchestra.io"
        return cls(_address(address), key, account or look("ORCHESTRA_ACCOUNT_ID") or None)


def _address(text: str) -> str:
    parts = urlsplit(text.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(
            f"{redact(text)!r} is not an address of Orchestra.",
            guidance=f"For example https://app.getorchestra.io{_PATH}.",
        )
    if parts.username or parts.password:
        raise UsageError("The address of Orchestra holds a user or a password.", guidance="Use api_key instead.")
    path = parts.path.rstrip("/") or _PATH
    return f"{parts.scheme}://{parts.netloc}{path}"


def _lookup(environ: Mapping[str, str] | None, folder: Path | None) -> Callable[[str], str | None]:
    def look(name: str) -> str | None:
        if environ is not None:
            return environ.get(name)
        # A thousand sensors would read the same file a thousand times.
        return os.environ.get(name) or _environment(folder or Path.cwd()).get(name)

    return look


@cache
def _environment(folder: Path) -> dict[str, str]:
    return environment(folder)
