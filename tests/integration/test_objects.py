"""SOURCE and OBJECT alone, as a task gets them: what else there is to know of an object is in the patterns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.testing.hubspot import HubSpotDouble
from connectors.testing.odp import EntitySet, Gateway, Property, Service
from connectors.testing.salesforce import Salesforce, Sundial
from tests.conftest import Cli, Project

_START = datetime(2024, 3, 1, 12, tzinfo=UTC)


@dataclass
class System:
    """A system with one customer, which a test changes."""

    credentials: dict[str, Any]
    change: Any


@contextmanager
def _salesforce() -> Iterator[System]:
    clock = Sundial(_START)
    with Salesforce(now=clock) as double:
        account = double.org.insert("Account", Name="Acme")
        clock.move(hours=1)

        def change() -> None:
            double.org.update(account, Name="Acme Ltd")
            clock.move(hours=1)

        credentials = {"instance_url": double.url, "client_id": "3MVG9.app", "client_secret": "s3cret"}
        yield System(credentials, change)


@contextmanager
def _sap() -> Iterator[System]:
    properties = Property("Customer", "Edm.String"), Property("Name", "Edm.String")
    customers = EntitySet("A_Customer", properties, ("Customer",))
    customers.put({"Customer": "1", "Name": "Acme"})
    with Gateway([Service("API", [customers])], now=lambda: _START) as gateway:
        url = gateway.service_url("API")
        own = {"url": url, "user": "EXTRACT", "password": "secret", "sap_client": "100"}
        yield System(own, lambda: customers.put({"Customer": "1", "Name": "Acme Ltd"}))


@contextmanager
def _hubspot() -> Iterator[System]:
    moment = [_START]
    with HubSpotDouble(now=lambda: moment[0]) as double:
        contact = double.store.add("contacts", {"email": "a@acme.example", "firstname": "Acme"})
        moment[0] += timedelta(hours=1)

        def change() -> None:
            double.store.change("contacts", contact, firstname="Acme Ltd")
            moment[0] += timedelta(hours=1)

        yield System({"access_token": double.token, "base_url": double.url}, change)


_SYSTEMS = {"salesforce": _salesforce, "sap": _sap, "hubspot": _hubspot}
_NAMES = {"salesforce": "name", "sap": "name", "hubspot": "firstname"}


def _task(project: Project, cli: Cli, source: str, name: str, system: System) -> None:
    project.environ |= {
        "SOURCE": source,
        "OBJECT": name,
        "SOURCE_CREDS": json.dumps(system.credentials),
        "DESTINATION": "duckdb",
        "DEST_CREDS": '{"path": "warehouse.duckdb"}',
        "DATASET": "raw",
    }
    answer = cli("task")
    assert answer.code == 0, answer.out + answer.err


@pytest.mark.parametrize("source", _SYSTEMS)
def test_a_customer_by_its_name_alone(project: Project, cli: Cli, source: str) -> None:
    with _SYSTEMS[source]() as system:
        for name in ("Acme", "Acme Ltd"):
            _task(project, cli, source, "Customer", system)
            assert project.query(f"select {_NAMES[source]} from raw.{source}__customer") == [(name,)]
            system.change()
