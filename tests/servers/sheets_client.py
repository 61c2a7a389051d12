"""Reads a double with Google's client and with gspread: ``PYTHON sheets_client.py URL``; settings come as JSON on stdin.

Prints JSON: what each call returned, or the status, the message and the reason of its refusal.
"""

import json
import sys

import gspread
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import credentials, service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

SCOPES = ["https://www.googleapis.com/auth/spreadsheets.readonly"]


class Elsewhere(AuthorizedSession):
    """A session of gspread whose API is at another address."""

    def __init__(self, own, url):
        super().__init__(own)
        self._place = url

    def request(self, method, url, *arguments, **options):
        url = url.replace("https://sheets.googleapis.com", self._place)
        return super().request(method, url, *arguments, **options)


def attempt(call):
    try:
        return call()
    except HttpError as error:
        return {"status": error.resp.status, "reason": error.reason, "details": error.error_details}
    except gspread.exceptions.APIError as error:
        return {"status": error.code, "reason": error.error["message"]}
    except RefreshError as error:
        return {"refresh": error.args[1] if len(error.args) > 1 else str(error)}


def google(url, own, key):
    with build("sheets", "v4", credentials=own, client_options={"api_endpoint": url}, static_discovery=True) as service:
        sheets = service.spreadsheets()
        values = sheets.values()
        batch = {"spreadsheetId": key, "ranges": ["People!A1:C3", "'My ''sheet'''!A1:B", "rates"]}
        many = [f"People!A{row % 20 + 1}:C20" for row in range(199)]
        fields = "properties.title,namedRanges(name,range),sheets(properties(title,hidden),merges)"
        cells = "sheets.data(startRow,rowData.values(effectiveValue,effectiveFormat.numberFormat.type))"
        return {
            "get": attempt(sheets.get(spreadsheetId=key, fields=fields).execute),
            "cells": attempt(sheets.get(spreadsheetId=key, ranges=["People!A2:E3"], fields=cells).execute),
            "grid": attempt(sheets.get(spreadsheetId=key, ranges=["People!B2"], includeGridData=True).execute),
            "values": attempt(values.get(spreadsheetId=key, range="People").execute),
            "columns": attempt(
                values.get(
                    spreadsheetId=key,
                    range="People!A2:E",
                    majorDimension="COLUMNS",
                    valueRenderOption="UNFORMATTED_VALUE",
                ).execute
            ),
            "batch": attempt(values.batchGet(**batch, valueRenderOption="FORMULA").execute),
            "strings": attempt(
                values.batchGet(
                    spreadsheetId=key,
                    ranges="People!D2:E3",
                    valueRenderOption="UNFORMATTED_VALUE",
                    dateTimeRenderOption="FORMATTED_STRING",
                ).execute
            ),
            # Too long for an address: the client sends it as a form with X-HTTP-Method-Override.
            "long": len(attempt(values.batchGet(spreadsheetId=key, ranges=many).execute).get("valueRanges", ())),
            "nothing": attempt(values.get(spreadsheetId=key, range="Nobody!A1").execute),
            "missing": attempt(values.get(spreadsheetId="missing", range="A1").execute),
            "foreign": attempt(values.get(spreadsheetId="foreign", range="A1").execute),
        }


def spread(url, own, key):
    client = gspread.Client(auth=None, session=Elsewhere(own, url))
    book = client.open_by_key(key)
    people = book.worksheet("People")
    return {
        "titles": [sheet.title for sheet in book.worksheets()],
        "records": people.get_all_records(),
        "unformatted": people.get(value_render_option="UNFORMATTED_VALUE"),
        "cell": book.worksheet("My 'sheet'").acell("B1").value,
        "named": book.values_get("rates").get("values"),
        "merged": book.worksheet("My 'sheet'").get("A1:B4", combine_merged_cells=True, pad_values=True),
        "outside": attempt(lambda: book.values_get("People!ZZ1")),
    }


def main():
    url, settings = sys.argv[1], json.load(sys.stdin)
    account = service_account.Credentials.from_service_account_info(settings["account"], scopes=SCOPES)
    stranger = service_account.Credentials.from_service_account_info(settings["stranger"], scopes=SCOPES)
    user = credentials.Credentials(
        None,
        refresh_token=settings["refresh_token"],
        token_uri=f"{url}/token",
        client_id=settings["client_id"],
        client_secret=settings["client_secret"],
    )
    key = settings["spreadsheet"]
    print(
        json.dumps(
            {
                "google": google(url, account, key),
                "user": google(url, user, key)["values"],
                "stranger": google(url, stranger, key)["values"],
                "gspread": spread(url, account, key),
            }
        )
    )


main()
