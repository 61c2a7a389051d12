"""What many APIs say about a quota of requests in headers: for ``limits.quota``.

``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset`` as GitHub has them
(https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api), and the names without ``X-``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from connectors.http import Reply, Usage

# Larger numbers are points in time, in seconds since 1970, and no spans.
_SPAN = 10**8


def usage(reply: Reply, *, now: datetime) -> Iterable[Usage]:
    """Return the quota that an answer tells of, if it does."""
    for prefix in ("X-RateLimit-", "X-Rate-Limit-", "RateLimit-"):
        limit, left = (_number(reply.header(f"{prefix}{name}")) for name in ("Limit", "Remaining"))
        if limit is None or left is None:
            continue
        resets = _number(reply.header(f"{prefix}Reset"))
        if resets is not None and resets > _SPAN:
            resets = max(0.0, resets - now.timestamp())
        yield Usage(int(limit - left), int(limit), resets)
        return


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
