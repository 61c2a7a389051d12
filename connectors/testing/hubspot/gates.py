"""Who may ask and how often: tokens, scopes, the burst and daily limits.

Facts: developers.hubspot.com, "Private apps" (a token that does not expire), "OAuth tokens" (POST /oauth/v1/token),
"API usage guidelines" (100 to 190 requests in 10 seconds, headers of each answer but those of search, which takes 5 a
second of an account; apps with OAuth have no daily limit and no headers of it).
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from connectors.testing.hubspot.refusals import Refusal, bad_token_request, missing_scopes, over_limit
from connectors.testing.hubspot.store import stamp

PRIVATE_TOKEN = "pat-eu1-double"  # noqa: S105
CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN = "client-1", "secret-1", "refresh-1"
_WINDOW = timedelta(seconds=10)


@dataclass
class Gate:
    """The tokens and counters of one account.

    Attributes:
        scopes: What the app was granted; None is everything.
        lifetime: Seconds that an access token of OAuth is good for.
        burst: Requests in any 10 seconds; daily: in a day; searches: in a second.
        tokens: Access tokens of OAuth, and when they expire.
    """

    now: Callable[[], datetime]
    scopes: set[str] | None = None
    lifetime: int = 1800
    burst: int = 190
    daily: int = 650_000
    searches: int = 5
    tokens: dict[str, datetime] = field(default_factory=dict)
    used_today: int = 0
    _recent: deque[datetime] = field(default_factory=deque)
    _searched: deque[datetime] = field(default_factory=deque)
    _day: object = None

    def authenticate(self, header: str | None) -> bool:
        """Check an Authorization header; return whether it holds the private app's token."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() == "bearer" and token == PRIVATE_TOKEN:
            return True
        expires = self.tokens.get(token) if scheme.lower() == "bearer" else None
        if expires is None:
            raise Refusal(
                401,
                "INVALID_AUTHENTICATION",
                "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find "
                "more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",
            )
        if expires <= self.now():
            raise Refusal(
                401,
                "EXPIRED_AUTHENTICATION",
                f"The OAuth token used to make this call expired {int((self.now() - expires).total_seconds())} "
                "second(s) ago.",
                context={"expire time": [stamp(expires)]},
            )
        return False

    def require(self, scopes: Sequence[str]) -> None:
        """Refuse an app that has none of these scopes."""
        if self.scopes is not None and not self.scopes.intersection(scopes):
            raise missing_scopes(*scopes)

    def count(self, *, private: bool) -> dict[str, str]:
        """Count a request and return the headers of its answer, or refuse it."""
        now = self.now()
        if self._day != now.date():
            self._day, self.used_today = now.date(), 0
        while self._recent and self._recent[0] <= now - _WINDOW:
            self._recent.popleft()
        if private and self.used_today >= self.daily:
            raise over_limit("DAILY", self._headers(private=True))
        if len(self._recent) >= self.burst:
            raise over_limit("TEN_SECONDLY_ROLLING", self._headers(private=private))
        self._recent.append(now)
        self.used_today += 1
        return self._headers(private=private)

    def count_search(self) -> None:
        """Count a search, or refuse it: 5 a second by default."""
        now = self.now()
        while self._searched and self._searched[0] <= now - timedelta(seconds=1):
            self._searched.popleft()
        if len(self._searched) >= self.searches:
            raise over_limit("SECONDLY")
        self._searched.append(now)

    def _headers(self, *, private: bool) -> dict[str, str]:
        headers = {
            "X-HubSpot-RateLimit-Max": str(self.burst),
            "X-HubSpot-RateLimit-Remaining": str(max(0, self.burst - len(self._recent))),
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
        }
        if private:
            headers["X-HubSpot-RateLimit-Daily"] = str(self.daily)
            headers["X-HubSpot-RateLimit-Daily-Remaining"] = str(max(0, self.daily - self.used_today))
        return headers

    def grant(self, form: Mapping[str, str]) -> dict[str, object]:
        """Answer POST /oauth/v1/token."""
        if form.get("grant_type") != "refresh_token":
            raise bad_token_request("BAD_GRANT_TYPE", "missing or unknown grant type")
        if form.get("client_id") != CLIENT_ID:
            raise bad_token_request("BAD_CLIENT_ID", "missing or unknown client id")
        if form.get("client_secret") != CLIENT_SECRET:
            raise bad_token_request("BAD_CLIENT_SECRET", "missing or invalid client secret")
        if form.get("refresh_token") != REFRESH_TOKEN:
            raise bad_token_request("BAD_REFRESH_TOKEN", "missing or invalid refresh token")
        token = f"access-{uuid.uuid4().hex}"
        self.tokens[token] = self.now() + timedelta(seconds=self.lifetime)
        return {
            "token_type": "bearer",
            "refresh_token": REFRESH_TOKEN,
            "access_token": token,
            "expires_in": self.lifetime,
        }
