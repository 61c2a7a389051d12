"""One pooled session to one system over HTTP: authentication, retries, limits, sizes."""

from connectors.http.answers import Judge, Reply, judged
from connectors.http.auth import ApiKey, Auth, Basic, Bearer, NoAuth, OAuth2, jwt_assertion
from connectors.http.client import Body, Http
from connectors.http.config import HttpConfig
from runner.requests import Requests, Usage

__all__ = [
    "ApiKey",
    "Auth",
    "Basic",
    "Bearer",
    "Body",
    "Http",
    "HttpConfig",
    "Judge",
    "NoAuth",
    "OAuth2",
    "Reply",
    "Requests",
    "Usage",
    "judged",
    "jwt_assertion",
]
