"""APIs that a configuration of dlt's REST API source describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectors.rest.source import RestSource

__all__ = ["RestSource"]


def __getattr__(name: str) -> Any:
    # Who needs only its credentials or its paths does without what reads rows.
    if name == "RestSource":
        from connectors.rest.source import RestSource

        return RestSource
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
