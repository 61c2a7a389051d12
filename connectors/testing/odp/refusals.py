"""Errors as SAP Gateway sends them: a code of a message class, a text in a language, a transaction.

After SAP Gateway's help on error responses (message container, inner errors).
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from connectors.testing.double import answer

# What the OData library itself finds wrong with a request has a code without a message class.
_REQUEST = "005056A509B11EE1B9A8FEC11C21578E"
_SEGMENT = "005056A509B11EE1B9A8FEC11C21D78E"


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    @classmethod
    def malformed(cls, message: str) -> Refused:
        """What the library cannot parse or does not know."""
        return cls(400, _REQUEST, message)

    @classmethod
    def segment(cls, name: str) -> Refused:
        """A path that leads nowhere."""
        return cls(404, _SEGMENT, f"Resource not found for the segment '{name}'.")

    @classmethod
    def property(cls, name: str, owner: str) -> Refused:
        """A property that the entity type does not have."""
        return cls(400, "/IWBEP/CM_MGW_RT/021", f"Property {name} not found in type {owner}.")

    @classmethod
    def not_implemented(cls, option: str) -> Refused:
        """An option that the data provider does not have."""
        return cls(
            501, "/IWBEP/CM_MGW_RT/097", f"System query option '{option}' is not implemented for this entity set."
        )

    @classmethod
    def dead_token(cls, token: str) -> Refused:
        """A place in the delta queue that is no longer kept."""
        return cls(410, "/IWBEP/CM_MGW_RT/110", f"Delta token '{token}' is not valid; initialize the delta again.")

    @classmethod
    def dead_page(cls, token: str) -> Refused:
        """A page that is no longer kept."""
        return cls(400, "/IWBEP/CM_MGW_RT/108", f"The skip token '{token}' is not valid.")

    def reply(self, service: str, language: str) -> web.Response:
        """Return it as an answer."""
        body: dict[str, Any] = {
            "error": {
                "code": self.code,
                "message": {"lang": language.lower(), "value": self.message},
                "innererror": {
                    "application": {
                        "component_id": "",
                        "service_namespace": "/SAP/",
                        "service_id": service,
                        "service_version": "0001",
                    },
                    "transactionid": "6B1F0D5E2A4C0010E0064C9F1A2B3C4D",
                    "timestamp": "20240101120000.0000000",
                    "Error_Resolution": {
                        "SAP_Transaction": "For backend administrators: use ADT feed reader, transaction "
                        "/IWFND/ERROR_LOG or run transaction ST22 for more details",
                        "SAP_Note": "See SAP Note 1797736 for error analysis",
                    },
                    "errordetails": [
                        {
                            "code": self.code,
                            "message": self.message,
                            "propertyref": "",
                            "severity": "error",
                            "target": "",
                        }
                    ],
                },
            }
        }
        return answer(body, status=self.status, headers={"DataServiceVersion": "1.0"})
