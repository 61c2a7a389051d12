"""Values that need a policy, and tables of an odd shape: what ``fidelity.py`` moves beside every type."""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.testing.fidelity.alltypes import table_name


@dataclass(frozen=True)
class Special:
    """Values that do not arrive as the others of their type do.

    Attributes:
        ordinary: A value beside them that must not be touched.
        arrives: What arrives of each without a policy; nothing where the table is refused.
        refused_by: Destinations that refuse what others take.
        note: What is lost, or who refuses.
    """

    type: str
    ordinary: str
    values: tuple[str, ...]
    arrives: tuple[str, ...] = ()
    refused_by: tuple[str, ...] = ()
    note: str = ""

    @property
    def table(self) -> str:
        """The name of its table."""
        return table_name(self.type)


_YEARS = ("0044-03-15{} BC", "0001-12-31{} BC", "10000-01-01{}")

SPECIALS = (
    Special("numeric(10,2)", "1.50", ("NaN",)),
    Special("numeric(38,38)", "0.5", ("NaN",)),
    Special(
        "date",
        "2024-02-29",
        ("infinity", "-infinity", *(year.format("") for year in _YEARS), "4714-11-24 BC", "5874897-12-31"),
    ),
    Special("time", "12:34:56", ("24:00:00",)),
    Special(
        "timestamp",
        "2024-02-29 12:34:56",
        (
            "infinity",
            "-infinity",
            *(year.format(" 00:00:00") for year in _YEARS),
            "4714-11-24 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
        ),
    ),
    Special(
        "timestamp with time zone",
        "2024-02-29 12:34:56+00",
        (
            "infinity",
            "-infinity",
            *(year.format(" 00:00:00+00") for year in _YEARS),
            "4714-11-24 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
        ),
    ),
    Special(
        "json",
        '{"a": 1}',
        ('"\\ud800"',),
        ('"\\ud800"',),
        ("DuckDB",),
        "half of a surrogate pair is no character; DuckDB refuses the document",
    ),
    Special(
        "integer[]",
        "{1,2}",
        ("[0:1]={1,2}", "[-1:0][5:5]={{1},{2}}"),
        ("[1,2]", "[[1],[2]]"),
        note="JSON has no bounds: they are lost",
    ),
    Special(
        "json[]",
        "{1}",
        ("{null,NULL}",),
        ("[null,null]",),
        note="the JSON value null and NULL are no longer told apart",
    ),
)


@dataclass(frozen=True)
class Shape:
    """A table of an odd shape.

    Attributes:
        sql: What makes it; {table} is its name.
        title: What it is, in words; outcome: what happens to it.
        names: The columns' names at the source and at the destination; () where they are the same.
        refused: What the refusal must say; an empty string where the table is moved.
    """

    table: str
    sql: str
    title: str
    outcome: str
    names: dict[str, str] = field(default_factory=dict)
    refused: str = ""


# How names become dlt's, which every destination keeps: see runner.naming.
NAMES = {
    "id": "id",
    "select": "select",
    "table": "table",
    "Mixed Case": "mixed_case",
    "camelCase": "camel_case",
    "UPPER": "upper",
    'with "quotes"': "with_quotesx",
    "it's": "it_s",
    "a.b": "a_b",
    "1st": "_1st",
    " blanks ": "blanks",
    "new\nline": "new_line",
    "100%": "_100x",
    "what?": "whatx",
    "back\\slash": "back_slash",
    "größe": "gr_e",
    "日本": "x",
    "n" * 63: "n" * 63,
}

_WIDE = (
    ("integer", "{n} - 500"),
    ("text", "'text ' || {n}"),
    ("numeric(10,2)", "{n} / 100.0"),
    ("boolean", "{n} % 2 = 0"),
    ("timestamp with time zone", "timestamptz '2024-01-01 00:00:00+00' + make_interval(hours => {n})"),
    ("double precision", "{n} / 7.0"),
    ("date", "date '2024-01-01' + {n}"),
    ("bytea", "int4send({n})"),
    ("bigint", "null"),
    ("character varying", "''"),
)


def _wide() -> str:
    kinds = [_WIDE[number % len(_WIDE)] for number in range(999)]
    columns = ", ".join(f"c{number} {kind}" for number, (kind, _) in enumerate(kinds))
    values = ", ".join(value.format(n=number) for number, (_, value) in enumerate(kinds))
    nulls = ", ".join("null" for _ in kinds)
    return f"create table {{table}} (id integer primary key, {columns}); insert into {{table}} select 1, {values}; " + (
        f"insert into {{table}} select 2, {nulls}"
    )


def _names() -> str:
    columns = ", ".join('"' + name.replace('"', '""') + '" integer' for name in NAMES)
    values = ", ".join(str(number) for number in range(1, len(NAMES) + 1))
    return f"create table {{table}} ({columns}); insert into {{table}} values ({values})"


SHAPES = (
    Shape(
        "no_rows",
        "create table {table} (id integer primary key, a text, b numeric(10,2), c timestamp[], d bytea)",
        "A table without rows",
        "is there, with its columns and no rows.",
    ),
    Shape(
        "one_column",
        "create table {table} (v text); insert into {table} values (E'\\ufeff'), (''), (null), (E'\\\\.'), ('')",
        "One column and no key: the empty string, NULL, a byte order mark, `\\.`",
        "exact; rows that are equal arrive as often as they are there.",
    ),
    Shape("wide", _wide(), "1,000 columns", "exact."),
    Shape(
        "every_character",
        "create table {table} (v text, id integer primary key); insert into {table} "
        "select string_agg(chr(c), '' order by c), plane from generate_series(0, 16) plane, "
        "lateral generate_series(plane * 65536, plane * 65536 + 65535) c "
        "where c <> 0 and c not between 55296 and 57343 group by plane",
        "Every code point of every Unicode plane, noncharacters included",
        "exact. PostgreSQL itself keeps no U+0000.",
    ),
    Shape(
        "Order By", _names(), "Names: reserved, quoted, mixed case, with any sign", "exact, under these names:", NAMES
    ),
    Shape(
        "time",
        "create table {table} (id integer primary key, v text); insert into {table} values (1, 'a')",
        "A table that is called `time` there",
        "exact.",
    ),
    Shape(
        "every_column_dropped",
        "create table {table} (id integer primary key, v text)",
        'No column selected (`columns: {"*": drop}`)',
        "refused before it starts; the other tables go on.",
        refused="every column is dropped",
    ),
    Shape(
        "no_columns",
        "create table {table} ()",
        "A table without columns",
        "refused before it starts; the other tables go on.",
        refused="has no columns",
    ),
    Shape(
        "two_names",
        'create table {table} ("a b" integer, a_b integer)',
        "Two columns that would have one name (`a b` and `a_b`)",
        "refused before it starts; one of them has to be dropped in the job file.",
        refused="would both be 'a_b' at the destination",
    ),
)
