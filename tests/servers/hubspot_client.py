"""HubSpot's own client for Python against a server: what it understands of the answers, as JSON."""

import json
import sys

import hubspot
from hubspot.crm.associations.v4 import BatchInputPublicFetchAssociationsBatchRequest
from hubspot.crm.objects import ApiException, BatchReadInputSimplePublicObjectId, PublicObjectSearchRequest


def refused(call):
    try:
        call()
    except ApiException as error:
        body = json.loads(error.body)
        return [error.status, body.get("category") or body.get("policyName") or body["status"]]
    return None


def main() -> None:
    url, token, client_id, client_secret, refresh_token = sys.argv[1:]
    bare = hubspot.Client.create(host=url)
    granted = bare.oauth.tokens_api.create(
        grant_type="refresh_token", client_id=client_id, client_secret=client_secret, refresh_token=refresh_token
    )
    api = hubspot.Client.create(access_token=granted.access_token, host=url)
    private = hubspot.Client.create(access_token=token, host=url)
    contacts = api.crm.contacts
    pages, after = [], None
    while True:
        page = contacts.basic_api.get_page(
            limit=2, after=after, properties=["email", "phone"], associations=["companies"], archived=False
        )
        pages.append(page)
        if page.paging is None:
            break
        after = page.paging.next.after
    first = pages[0].results[0]
    search = PublicObjectSearchRequest(
        filter_groups=[
            {"filters": [{"propertyName": "hs_object_id", "operator": "GT", "value": "101"}]},
        ],
        sorts=[{"propertyName": "hs_object_id", "direction": "DESCENDING"}],
        properties=["email"],
        limit=200,
    )
    found = private.crm.objects.search_api.do_search("contacts", public_object_search_request=search)
    read = api.crm.objects.batch_api.read(
        "contacts",
        BatchReadInputSimplePublicObjectId(
            inputs=[{"id": first.id}], properties=["email"], properties_with_history=["email"]
        ),
    )
    links = api.crm.associations.v4.batch_api.get_page(
        "contacts", "companies", BatchInputPublicFetchAssociationsBatchRequest(inputs=[{"id": first.id}])
    )
    print(
        json.dumps(
            {
                "token": [granted.token_type, granted.refresh_token, granted.expires_in],
                "all": [one.id for one in contacts.get_all(properties=["email"])],
                "pages": [len(page.results) for page in pages],
                "first": [first.id, first.properties["email"], first.archived, first.created_at.isoformat()],
                "associated": [one.id for one in first.associations["companies"].results],
                "archived": [
                    [one.id, one.archived_at.isoformat()] for one in contacts.basic_api.get_page(archived=True).results
                ],
                "search": [found.total, [one.id for one in found.results]],
                "history": [[one.value, one.source_type] for one in read.results[0].properties_with_history["email"]],
                "links": [
                    [end.to_object_id, [[kind.category, kind.type_id, kind.label] for kind in end.association_types]]
                    for end in links.results[0].to
                ],
                "one": contacts.basic_api.get_by_id(first.id, properties=["email"]).properties["email"],
                "types": {one.name: one.type for one in api.crm.properties.core_api.get_all("contacts").results},
                "schemas": [[one.name, one.object_type_id] for one in api.crm.schemas.core_api.get_all().results],
                "custom": [
                    one.properties["colour"]
                    for one in api.crm.objects.basic_api.get_page("2-4711", properties=["colour"]).results
                ],
                "refused": {
                    "limit": refused(lambda: api.crm.objects.basic_api.get_page("contacts", limit=101)),
                    "kind": refused(lambda: api.crm.objects.basic_api.get_page("widgets")),
                    "token": refused(lambda: bare.crm.objects.basic_api.get_page("contacts")),
                },
            }
        )
    )


main()
