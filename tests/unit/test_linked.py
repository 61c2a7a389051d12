"""Linked connections: variables that Orchestra sets, one a field."""

from pathlib import Path

import pytest

from orchestra.linked import linked_options
from runner.errors import UsageError
from runner.secrets import redact

KEYS = frozenset({"account", "user", "password", "database", "private_key", "project"})
ENVIRON = {
    "SNOWFLAKE__ANALYTICS_PROD__ACCOUNT_IDENTIFIER": "acme",
    "SNOWFLAKE__ANALYTICS_PROD__USERNAME": "loader",
    "SNOWFLAKE__ANALYTICS_PROD__PASSWORD": "hunter2hunter2",
    "SNOWFLAKE__ANALYTICS_PROD__THEME": "dark",
    "DESTINATION__SNOWFLAKE__CREDENTIALS": "dlt's own",
    "PATH": "/bin",
}


def test_fields_become_options_and_others_are_left_out():
    found = linked_options("snowflake", KEYS, ENVIRON)
    assert found == {"account": "acme", "user": "loader", "password": "hunter2hunter2"}
    assert "hunter2" not in redact("it said hunter2hunter2")


def test_one_of_several_is_named_as_it_is_called_in_orchestra():
    environ = {**ENVIRON, "SNOWFLAKE__OTHER__DATABASE": "lake"}
    with pytest.raises(UsageError, match="ANALYTICS_PROD, OTHER"):
        linked_options("snowflake", KEYS, environ)
    assert linked_options("snowflake", KEYS, environ, wanted="other") == {"database": "lake"}
    assert linked_options("snowflake", KEYS, environ, wanted="analytics-prod")["account"] == "acme"
    with pytest.raises(UsageError, match="not linked"):
        linked_options("snowflake", KEYS, environ, wanted="third")


def test_integrations_that_are_called_otherwise():
    assert linked_options("bigquery", KEYS, {"GCP_BIG_QUERY__MAIN__PROJECT_ID": "p"}) == {"project": "p"}


def test_nothing_linked_is_nothing():
    assert linked_options("duckdb", KEYS, ENVIRON) == {}


def test_lists_and_mappings_come_as_json():
    found = linked_options("snowflake", KEYS, {"SNOWFLAKE__A__PRIVATE_KEY": '{"a": 1}', "SNOWFLAKE__A__USER": "{odd"})
    assert found == {"private_key": {"a": 1}, "user": "{odd"}


def test_a_connection_of_which_nothing_is_known_is_not_taken_for_none():
    with pytest.raises(UsageError, match=r"MAIN of POSTGRES has no field that postgres takes: SERVER, URL_OF_IT"):
        linked_options("postgres", KEYS, {"POSTGRES__MAIN__SERVER": "db", "POSTGRES__MAIN__URL_OF_IT": "x"})


def test_the_keys_of_a_postgres_are_those_of_its_connection():
    from runner.writers.postgres import Postgres, PostgresConfig

    environ = {f"POSTGRES__MAIN__{name}": value for name, value in _FIELDS.items()}
    keys = frozenset(PostgresConfig.model_fields)
    found = Postgres(linked_options("postgres", keys, environ), folder=Path(), memory=1)
    assert found.describe() == "postgres db.example.com:5433/shop"
    assert "hunter2" not in repr(PostgresConfig.model_validate(linked_options("postgres", keys, environ)))


_FIELDS = {
    "HOST": "db.example.com",
    "PORT": "5433",
    "DATABASE_NAME": "shop",
    "USERNAME": "loader",
    "PASSWORD": "hunter2 with ' and spaces",
}
