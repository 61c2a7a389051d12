"""simple-salesforce against a server: prints what it read as JSON."""

from __future__ import annotations

import json
import sys
import time

import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceError


class Redirected(HTTPAdapter):
    """Send what is meant for https://….salesforce.com to the server, which speaks no TLS."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request, **more):
        _, _, rest = request.url.partition("://")
        request.url = f"{self._url}/{rest.partition('/')[2]}"
        return super().send(request, **more)


def refused(call) -> list:
    """Return the class, the status and the code of the error that a call ends with."""
    try:
        call()
    except SalesforceError as error:
        content = error.content[0]["errorCode"] if isinstance(error.content, list) else str(error.content)
        return [type(error).__name__, error.status, content]
    return []


def main(url: str, client_id: str, client_secret: str, key: str) -> None:
    session = requests.Session()
    session.mount("https://", Redirected(url))
    time.sleep = lambda seconds: None  # its own polling interval
    common = {"consumer_key": client_id, "session": session, "version": "60.0"}
    by_key = Salesforce(username="runner@example.com", privatekey=key, domain="login", **common)
    sf = Salesforce(consumer_secret=client_secret, domain="acme.my", **common)
    found = {
        "instance": sf.sf_instance,
        "by_key": by_key.query("SELECT COUNT() FROM Account")["totalSize"],
        "versions": len(requests.get(f"{url}/services/data", timeout=10).json()),
        "objects": [one["name"] for one in sf.describe()["sobjects"]],
        "fields": {one["name"]: one["type"] for one in sf.Contact.describe()["fields"]},
        "references": next(one for one in sf.Task.describe()["fields"] if one["name"] == "WhatId")["referenceTo"],
        "all": [one["Name"] for one in sf.query_all_iter("SELECT Id, Name FROM Account ORDER BY Name")],
        "owners": [one["Owner"]["Name"] for one in sf.query("SELECT Owner.Name FROM Account LIMIT 2")["records"]],
        "deleted": sf.query_all("SELECT Id FROM Account WHERE IsDeleted = true", include_deleted=True)["totalSize"],
        "group": [dict(one) for one in sf.query("SELECT Type, COUNT(Id) n FROM Account GROUP BY Type")["records"]],
        "record": sf.Account.get(sf.query("SELECT Id FROM Account ORDER BY Name LIMIT 1")["records"][0]["Id"])["Name"],
        "bulk": list(sf.bulk2.Account.query("SELECT Id, Name FROM Account ORDER BY Name", max_records=4)),
        "bulk_all": list(sf.bulk2.Account.query_all("SELECT Id FROM Account WHERE IsDeleted = true")),
        "limits": sf.limits()["DailyApiRequests"]["Max"],
        "usage": list(sf.api_usage["api-usage"]),
        "refused": [
            refused(lambda: sf.query("SELECT Nope FROM Account")),
            refused(lambda: sf.query("SELECT Id FROM Nope")),
            refused(lambda: sf.query_more("01g000000000000AAA-2000")),
            refused(lambda: list(sf.bulk2.Account.query("SELECT COUNT() FROM Account"))),
            refused(lambda: sf.Account.get("001000000000000AAA")),
        ],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
