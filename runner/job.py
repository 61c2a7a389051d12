"""The job file as pydantic models; ``schemas.py`` generates the JSON Schemas for editors from them."""

from __future__ import annotations

from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runner.production import Production
from runner.units import Duration, Lag, Rate, Share, Size

Mode = Literal["full", "append", "incremental", "snapshot", "auto"]
ColumnRule = Literal["drop", "hash", "mask", "text"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]


class Strict(BaseModel):
    """A model that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)


class Limits(Strict):
    """Bounds of one run against one source."""

    tables: int = Field(32, ge=1, le=1000, description="tables in work at once")
    connections: int = Field(8, ge=1, le=1000, description="ceiling of connections to the source")
    rate: Rate | None = Field(None, description="requests to the source")
    memory: Size = Field(2**30, description="resident memory for rows on their way")
    disk: Size = Field(20 * 2**30, description="spool on local disk")
    quota: Share | None = Field(None, description="share of the source's own quota we may use")
    destination: int | None = Field(
        None, ge=1, description="sessions at the destination, of all tasks; a process has one at a time"
    )
    snapshot_age: Duration = Field(
        timedelta(minutes=30), ge=timedelta(seconds=1), description="longest life of one snapshot"
    )
    chunk_rows: int = Field(500_000, ge=1, description="rows in one chunk, estimated")
    chunk_bytes: Size = Field(256 * 2**20, description="bytes in one chunk, estimated")
    park: Duration = Field(timedelta(minutes=15), description="longer pauses park the table")

    def over(self, base: Limits | None) -> Limits:
        """Return base with every limit that this one sets."""
        return (base or Limits()).model_copy(update={name: getattr(self, name) for name in self.model_fields_set})


class Retry(Strict):
    """How often and how long a chunk is tried again."""

    attempts: int = Field(6, ge=1, le=100)
    max_wait: Duration = timedelta(seconds=60)
    deadline: Duration = timedelta(hours=2)


class Deletes(Strict):
    """How rows deleted at the source are found."""

    column: str


class TableEntry(Strict):
    """What a pattern under ``tables:`` says; entries merge key by key, the later wins."""

    mode: Mode | None = None
    cursor: str | list[str] | None = Field(None, description="column that orders changes")
    key: list[str] | None = Field(None, description="columns that make a row unique; from the primary key")
    lag: Lag | None = Field(None, description="how far behind the high-water mark a run starts again")
    fallback: Literal["full", "error"] | None = Field(None, description="auto without a cursor")
    deletes: Literal["ignore", "compare"] | Deletes | None = None
    on_delete: Literal["soft", "hard"] | None = None
    max_delete: Share | None = None
    late: Literal["ignore", "scan"] | None = None
    as_: str | None = Field(None, alias="as", min_length=1, description="name at the destination")
    where: str | None = Field(None, description="SQL condition on the source's rows")
    columns: dict[str, ColumnRule] | None = Field(None, description="column or pattern: drop, hash, mask, text")
    special: Literal["error", "null"] | None = Field(None, description="NaN, infinity and years out of range")
    at_least_once: bool | None = None
    adopt: bool | None = Field(None, description="replace a table that another source made")
    on_busy: Literal["wait", "skip", "fail"] | None = None
    disabled: bool | None = None
    schema_: Literal["evolve", "freeze"] | None = Field(None, alias="schema")

    def over(self, base: TableEntry) -> TableEntry:
        """Return base with every key that this entry sets."""
        merged = {name: getattr(base, name) for name in base.model_fields_set}
        own = {name: getattr(self, name) for name in self.model_fields_set}
        if merged.get("columns") and own.get("columns"):
            # The last rule that matches wins, so a rule named again moves to the end.
            kept = {name: rule for name, rule in merged["columns"].items() if name not in own["columns"]}
            own["columns"] = {**kept, **own["columns"]}
        return TableEntry.model_construct(**{**merged, **own})


class SourceSpec(BaseModel):
    """A source, inline or in connections.yml; its other keys belong to the connector."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    limits: Limits | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The connector's own keys."""
        return dict(self.model_extra or {})


class DestinationSpec(BaseModel):
    """A destination, inline or in connections.yml; its other keys belong to the writer."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = "duckdb"
    connection: str | None = Field(None, description="entry of connections.yml to start from")
    dataset: str = Field("raw_{source}", description="template over {source} {schema} {env}")
    table: str | None = Field(None, description="template over {source} {schema} {table} {env}")
    allow_unproved: bool = Field(False, description="load although this kind of destination never ran in a test")

    @property
    def options(self) -> dict[str, Any]:
        """The writer's own keys."""
        return dict(self.model_extra or {})


class Transform(Strict):
    """What is built from the tables once they landed."""

    type: str
    project: str
    build: Literal["after_load", "as_loaded"] = "after_load"


class Environment(BaseModel):
    """An overlay: any key of the job file, merged over it; ``protected`` asks for --env by name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    protected: bool = False

    @model_validator(mode="after")
    def _known_keys(self) -> Environment:
        for key in self.model_extra or {}:
            if key not in Job.model_fields and key != "schema":
                raise ValueError(f"unknown key {key!r} in an environment")
            if key in ("name", "environments"):
                raise ValueError(f"{key!r} cannot differ between environments")
        return self


class Job(Strict):
    """A job: a source, a destination and tables."""

    name: Name
    source: str | SourceSpec = Field(description="an entry of connections.yml, or inline {type: …}")
    destination: str | DestinationSpec = Field(default_factory=lambda: DestinationSpec())
    defaults: TableEntry = Field(default_factory=lambda: TableEntry())
    limits: Limits = Field(default_factory=lambda: Limits())
    retry: Retry = Field(default_factory=lambda: Retry())
    schema_: Literal["evolve", "freeze"] = Field("evolve", alias="schema")
    exclude: list[str] = Field(default_factory=list, description="patterns of tables left out")
    tables: dict[str, TableEntry | None] = Field(min_length=1, description="pattern: how it is moved")
    new_tables: Literal["load", "alert", "ignore"] = "load"
    environments: dict[str, Environment | None] = Field(default_factory=dict)
    transform: Transform | None = None
    production: Production | None = None
    state: str | dict[str, Any] = Field(
        "destination",
        description="where marks, history and leases are: destination, or postgresql://…, s3://…, gs://…, az://…, a "
        "folder; or {url: …, endpoint: …} with the keys of a destination of type filesystem",
    )

    @field_validator("tables")
    @classmethod
    def _patterns(cls, tables: dict[str, TableEntry | None]) -> dict[str, TableEntry | None]:
        for pattern in tables:
            if not pattern.strip():
                raise ValueError("an empty pattern")
        return tables

    def entry(self, qualified: str, known: TableEntry | None = None) -> TableEntry | None:
        """Return how a table is moved: defaults, then every matching entry in file order.

        Args:
            qualified: ``schema.table`` as the source names it.
            known: What its connector knows of it, under all that the job says.

        Returns:
            None where no pattern matches, or the table is excluded or disabled.
        """
        matching = [entry for pattern, entry in self.tables.items() if matches(pattern, qualified)]
        if not matching or any(matches(pattern, qualified) for pattern in self.exclude):
            return None
        merged = self.defaults if known is None else self.defaults.over(known)
        for entry in matching:
            merged = (entry or TableEntry()).over(merged)
        return None if merged.disabled else merged


class Connections(Strict):
    """connections.yml: sources and destinations with references to secrets, never secrets."""

    sources: dict[str, SourceSpec] = Field(default_factory=dict)
    destinations: dict[str, DestinationSpec] = Field(default_factory=dict)


def matches(pattern: str, qualified: str) -> bool:
    """Tell whether a pattern names a table; a pattern without a dot looks at the name alone."""
    if fnmatchcase(qualified, pattern) or qualified == pattern:
        return True
    return "." not in pattern and fnmatchcase(qualified.partition(".")[2], pattern)


def is_exact(pattern: str) -> bool:
    """Tell whether a pattern is the name of one table."""
    return not any(sign in pattern for sign in "*?[")
