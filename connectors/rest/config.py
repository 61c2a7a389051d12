"""The dictionary of dlt's REST API source, as models: client, resource_defaults, resources.

The keys, their defaults and what they mean are those of dlt 1.31 (https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from connectors.http import HttpConfig
from connectors.rest.credentials import Auth
from connectors.rest.hints import Disposition, Names, columns_of
from connectors.rest.objects import function, load_config, refuse_object, without_objects
from connectors.rest.options import Paginator
from connectors.rest.strict import Function, PathText, Strict, known_keys, without_session
from runner.errors import JobFileError

# Hints of dlt that say how its own loader works.
_ONLY_DLT = frozenset(
    {
        "nested_hints",
        "schema_contract",
        "table_format",
        "file_format",
        "references",
        "parent_table_name",
        "validator",
        "spec",
    }
)
_TABLES = "say how the table is loaded under tables: of the job file"


class Incremental(Strict):
    """A cursor: which rows are asked for, and which are kept."""

    cursor_path: PathText
    initial_value: Any = None
    end_value: Any = None
    start_param: str | None = None
    end_param: str | None = None
    convert: Function | None = None
    transform: Function | None = Field(None, description="the older name of convert")
    lag: float | None = None
    row_order: Literal["asc", "desc"] | None = None
    on_cursor_value_missing: Literal["raise", "include", "exclude"] = "raise"
    range_start: Literal["open", "closed"] = "closed"
    range_end: Literal["open", "closed"] = "open"
    last_value_func: Any = "max"
    primary_key: Any = Field(None, description="taken and not used: rows are merged by the table's key")
    allow_external_schedulers: bool | None = Field(None, description="taken and not used")

    @field_validator("last_value_func")
    @classmethod
    def _is_max(cls, value: Any) -> Any:
        if value not in ("max", max, None):
            raise ValueError("only max is kept as a high-water mark: a cursor has to grow")
        return value


class Action(Strict):
    """What to do with an answer of a status, or with a text in it."""

    status_code: int | None = None
    content: str | None = None
    action: Any = None

    @field_validator("action")
    @classmethod
    def _loaded(cls, value: Any) -> Any:
        if value in ("ignore", "raise"):
            return value
        return [function(one) for one in value] if isinstance(value, list) else [function(value)]


class Step(Strict):
    """What is done to every row."""

    filter: Function | None = None
    map: Function | None = None
    yield_map: Function | None = None


def _action(value: Any) -> Any:
    return {"action": value} if callable(value) or isinstance(value, str) else value


def _endpoint(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class Endpoint(Strict):
    """Where a resource is, and how it is asked for."""

    path: str | None = None
    method: str | None = None
    params: Annotated[dict[str, Any] | None, BeforeValidator(without_objects)] = None
    json_: dict[str, Any] | None = Field(None, alias="json")
    data: Any = None
    headers: dict[str, Any] | None = None
    paginator: Paginator = None
    data_selector: PathText | None = None
    response_actions: list[Annotated[Action, BeforeValidator(_action)]] | None = None
    incremental: Incremental | None = None
    auth: Auth = None

    @field_validator("method")
    @classmethod
    def _reads(cls, value: str | None) -> str | None:
        if value is not None and value.upper() not in ("GET", "POST"):
            raise ValueError(f"{value!r} does not read: GET or POST")
        return value


class ResourceDefaults(Strict):
    """What all resources have in common, and what each may say for itself."""

    endpoint: Annotated[Endpoint | None, BeforeValidator(_endpoint, json_schema_input_type=Endpoint | str | None)] = (
        None
    )
    include_from_parent: list[str] | None = None
    processing_steps: list[Step] | None = None
    table_name: str | None = None
    primary_key: Names = ()
    merge_key: Names = ()
    write_disposition: Disposition = None
    columns: Annotated[dict[str, dict[str, Any]], BeforeValidator(columns_of)] = Field(default_factory=dict)
    selected: bool | None = None
    max_table_nesting: int | None = Field(None, description="taken and not used: nested values arrive as JSON")
    parallelized: bool | None = Field(None, description="taken and not used: limits.connections says how much at once")

    @model_validator(mode="before")
    @classmethod
    def _not_for_us(cls, data: Any) -> Any:
        refuse_object(data, "a resource")
        for key in _ONLY_DLT & set(data if isinstance(data, Mapping) else ()):
            raise ValueError(f"{key!r} is a hint to dlt's own loader: leave it out, and {_TABLES}")
        for key in ("name", "table_name"):
            if isinstance(data, Mapping) and callable(data.get(key)):
                raise ValueError(f"{key} is a function: rows of one resource go to one table here")
        return data


class Resource(ResourceDefaults):
    """One resource as it is written down."""

    name: str


def _resource(value: Any) -> Any:
    return {"name": value, "endpoint": {"path": value}} if isinstance(value, str) else value


class Client(Strict):
    """What all requests have in common."""

    base_url: str = Field(min_length=1)
    headers: dict[str, Any] | None = None
    auth: Auth = None
    paginator: Paginator = None

    @model_validator(mode="before")
    @classmethod
    def _no_session(cls, data: Any) -> Any:
        return without_session(data)


class RestConfig(HttpConfig):
    """The source: dlt's dictionary, or ``config``, the name of one in Python."""

    client: Client
    resource_defaults: ResourceDefaults | None = None
    resources: list[Annotated[Resource, BeforeValidator(_resource, json_schema_input_type=Resource | str)]] = Field(
        min_length=1
    )
    config: Any = Field(
        None, description="instead: package.module:name of a dictionary, or of a function returning one"
    )

    @model_validator(mode="before")
    @classmethod
    def _given(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        known_keys(cls, data)
        if data.get("config") is None:
            return data
        for key in ("client", "resource_defaults", "resources"):
            if key in data:
                raise ValueError(f"{key} and config: one of them says what is read")
        return known_keys(cls, {**load_config(data["config"]), **data})


def read_config(options: Mapping[str, Any]) -> RestConfig:
    """Return the configuration.

    Raises:
        JobFileError: It is wrong: where, and the nearest known key.
    """
    try:
        return RestConfig.model_validate(dict(options))
    except ValidationError as error:
        lines = dict.fromkeys(_line(issue) for issue in error.errors(include_input=False, include_url=False))
        raise JobFileError("\n".join(list(lines)[:8])) from None


def _line(issue: Any) -> str:
    # Not the tags of unions, which are not in the file.
    loc = [part for part in issue["loc"] if not (isinstance(part, str) and part.startswith("type:"))]
    where = ".".join(["source", *(str(part) for part in loc)])
    if issue["type"] == "missing":
        return f"{where}: this key is needed."
    message = str(issue["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[0].lower() + message[1:]}{'' if message.endswith(('.', '?')) else '.'}"
