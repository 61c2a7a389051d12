"""Reads an OData V2 service with pyodata, which others wrote, and prints what it understood as JSON.

Arguments: the service's address, user, password, sap-client or "-".
"""

from __future__ import annotations

import json
import sys
import warnings

import pyodata
import requests
from pyodata.v2.model import Config, PolicyIgnore


def main(url: str, user: str, password: str, client: str) -> dict[str, object]:
    warnings.simplefilter("ignore")
    session = requests.Session()
    session.auth = (user, password)
    if client != "-":
        session.params = {"sap-client": client}
    service = pyodata.Client(url, session, config=Config(default_error_policy=PolicyIgnore()))
    found: dict[str, object] = {"sets": {}, "rows": {}, "labels": {}, "functions": {}}
    for entity_set in service.schema.entity_sets:
        kind = entity_set.entity_type
        found["sets"][entity_set.name] = {
            "key": [prop.name for prop in kind.key_proprties],
            "types": {prop.name: prop.typ.name for prop in kind.proprties()},
            "navigation": sorted(prop.name for prop in kind.nav_proprties),
        }
        found["labels"][entity_set.name] = {prop.name: prop.label for prop in kind.proprties() if prop.label}
    for entity_set in service.schema.entity_sets:
        if entity_set.name.startswith("DeltaLinksOf"):
            continue
        reader = getattr(service.entity_sets, entity_set.name)
        names = [prop.name for prop in entity_set.entity_type.proprties()]
        rows = []
        page = reader.get_entities().execute()
        while True:
            rows += [{name: str(getattr(row, name)) for name in names} for row in page]
            if page.next_url is None:
                break
            page = reader.get_entities().next_url(page.next_url).execute()
        found["rows"][entity_set.name] = rows
    for function in service.schema.function_imports:
        if function.name.startswith("SubscribedTo"):
            found["functions"][function.name] = getattr(service.functions, function.name).execute()
    counted = {}
    for entity_set in service.schema.entity_sets:
        if not entity_set.name.startswith("DeltaLinksOf"):
            counted[entity_set.name] = getattr(service.entity_sets, entity_set.name).get_entities().count().execute()
    found["counts"] = counted
    return found


print(json.dumps(main(*sys.argv[1:]), default=str))
