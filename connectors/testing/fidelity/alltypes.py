"""Every PostgreSQL type with values at its edges: what ``fidelity.py`` moves and compares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Way = Literal["value", "text", "json", "array", "array of json", "array of text"]

# Made before the tables: the types that a user makes.
TYPES = r"""
create schema own;
create type own.status as enum ('new', 'paid', 'Größe unbekannt', 'say "hi"', 'NULL', '');
create domain own.email as text check (value like '%@%');
create domain own.price as numeric(12, 2) check (value >= 0);
create domain own.discount as own.price check (value < 100);
create domain own.ids as integer[];
create domain public.text_code as character(5);
create type own.pair as (a integer, b text);
create type own.item as (name text, price numeric, parts own.pair[], sold timestamp);
create type own.textrange as range (subtype = text);
create type own.date as enum ('today', '2024-01-01');
create type own.json as enum ('{', 'a');
create type own.bool as enum ('t', 'f');
create type own.float8 as enum ('1e3', '1000');
"""


@dataclass(frozen=True)
class Case:
    """A type with values; a NULL is always added.

    Attributes:
        way: What it is compared by: the clients' own values, the text that the server prints, the JSON document
            as it is written, or an array as JSON, its elements compared by one of these.
        note: What a reader should know of it.
        label: What it is called in the document; its type by default.
        since: The first major version of PostgreSQL that has it; newer: the same of single values.
        same: Whether the server reads the text back as the same value, bit by bit.
    """

    type: str
    values: tuple[str, ...]
    way: Way = "value"
    note: str = ""
    label: str = ""
    since: int = 0
    newer: Mapping[str, int] = field(default_factory=dict)
    same: bool = True

    @property
    def table(self) -> str:
        """The name of its table."""
        return table_name(self.type)


def table_name(kind: str) -> str:
    """Return a table's name for a type."""
    return re.sub(r"\W+", "_", kind.replace("[]", " array")).strip("_").lower()


_FLOATS = ("0", "-0", "1", "-1.5", "0.1", "1e-7", "NaN", "Infinity", "-Infinity")
_LONG = "9" * 70 + "." + "9" * 40

NUMBERS = (
    Case("smallint", ("-32768", "-1", "0", "1", "32767")),
    Case("integer", ("-2147483648", "-1", "0", "1", "2147483647")),
    Case("bigint", ("-9223372036854775808", "-1", "0", "9007199254740993", "9223372036854775807")),
    Case("oid", ("0", "2147483648", "4294967295"), note="a signed 64-bit integer holds all of it"),
    Case("real", (*_FLOATS, "3.4028235e38", "-3.4028235e38", "1e-45", "1.17549435e-38", "16777217", "0.3")),
    Case(
        "double precision",
        (*_FLOATS, "1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "9007199254740993", "1e23"),
        note="NaN and infinities are values like any other",
    ),
    Case("numeric(1,0)", ("-9", "0", "9")),
    Case("numeric(10,2)", ("-99999999.99", "-0.01", "0", "0.1", "1.50", "99999999.99")),
    Case("numeric(18,0)", ("-999999999999999999", "0", "999999999999999999")),
    Case("numeric(19,4)", ("-999999999999999.9999", "0", "999999999999999.9999")),
    Case("numeric(38,0)", ("-" + "9" * 38, "0", "9" * 38)),
    Case("numeric(38,10)", ("-" + "9" * 28 + "." + "9" * 10, "0.0000000001", "9" * 28 + "." + "9" * 10)),
    Case("numeric(38,38)", ("-0." + "9" * 38, "0", "0." + "0" * 37 + "1", "0." + "9" * 38)),
    Case("numeric(39,10)", ("-" + "9" * 29 + "." + "9" * 10, "0", "NaN"), "text", "wider than a decimal128"),
    Case("numeric(1000,500)", ("9" * 500 + "." + "9" * 500, "0", "NaN"), "text", "wider than a decimal128"),
    Case("numeric(3,-2)", ("12300", "-99900", "0", "NaN"), "text", "a negative scale", since=15),
    Case("numeric(2,5)", ("0.00012", "-0.00099", "0", "NaN"), "text", "a scale larger than the precision", since=15),
    Case(
        "numeric",
        ("0", "0.00", "1.10", "-1e-30", "1e40", _LONG, "9" * 2000, "NaN"),
        "text",
        "no precision to choose a decimal by; trailing zeros stay",
    ),
)

_CONTROLS = "".join(chr(code) for code in (*range(1, 32), 127, 133, 160, 0x2028, 0x2029))
_STRINGS = (
    # A byte order mark comes first: it is then the first byte of the stream too.
    "\ufeffmarked",
    "\ufeff",
    "in the mid\ufeffdle",
    "",
    " ",
    "  blanks around  ",
    "NULL",
    "null",
    "\\N",
    "\\.",
    "\\.\n\\.\n",
    "\\",
    "C:\\new\\table",
    '"',
    '""',
    "'",
    'say "hi", it\'s',
    ",",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "two\nlines\r\nand a third\r",
    "%s %(a)s {b} ? $1 :c",
    "0x41",
    "1e5",
    "2024-01-01",
    "NaN",
    _CONTROLS,
    # Composed and decomposed stay apart; nothing is normalised.
    "é",
    "e\u0301",
    "שלום مرحبا",
    "👩\u200d👩\u200d👧 🏳\ufe0f\u200d🌈",
    "\ufffd\ufffe\uffff",
    "𐀀 𠀀 𰀀 \U000e0001 \U000f0000 \U0010ffff",
)

TEXT = (
    Case("text", (*_STRINGS, "long " * 200_000), note="the empty string is not NULL"),
    Case("character varying", _STRINGS),
    Case("character varying(5)", ("", "a", "Größe", "\ufeff", "     ")),
    Case("character(5)", ("", "a", "Größe", "  b", "\n"), note="with its blanks at the end, as COPY sends it"),
    Case("name", ("", "a", "Größe", 'we"ird')),
    Case('"char"', ("", "a", " ", '"', ",", "\\377"), "text"),
    Case(
        "own.email",
        ("a@b", '"quoted, name"@example.org'),
        label="domain over `text`",
        note="a domain arrives as its base type does",
    ),
    Case("text_code", ("", "a", "abcde"), label="domain over `character(5)`"),
    Case("own.status", ("new", "Größe unbekannt", 'say "hi"', "NULL", ""), label="enum"),
)

_TIMES = ("2000-01-01 00:00:00", "1969-12-31 23:59:59.999999", "2024-02-29 12:34:56.789", "1582-10-10 00:00:00")
_ENDS = ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999")

TIMES = (
    Case("date", ("0001-01-01", "1582-10-10", "1900-02-28", "1970-01-01", "2024-02-29", "9999-12-31")),
    Case("time", ("00:00:00", "00:00:00.000001", "12:34:56.7", "23:59:59.999999")),
    Case("time(0)", ("00:00:00", "23:59:59")),
    Case("timestamp", (*_TIMES, *_ENDS), note="the wall clock, with no zone added"),
    Case("timestamp(3)", ("2024-02-29 12:34:56.789",)),
    Case(
        "timestamp with time zone",
        (*(f"{one}+00" for one in (*_TIMES, *_ENDS)), "2024-03-31 02:30:00+01", "2024-07-01 00:00:00-11:30"),
        note="the instant; PostgreSQL keeps no zone of its own in it",
    ),
    Case(
        "time with time zone",
        ("00:00:00+00", "12:34:56.789+05:45", "23:59:59.999999-15:59", "24:00:00+15:59:59"),
        "text",
        "the offset stays",
    ),
    Case(
        "interval",
        (
            "0", "1 year 2 months 3 days 04:05:06.789", "-1 year 2 days -00:00:00.000001", "1 month", "30 days",
            "720:00:00", "-2147483648 months 2147483647 days", "2562047788:00:54.775807", "-2562047788:00:54.775807",
            "infinity", "-infinity",
        ),
        "text",
        "ISO 8601; months, days and seconds stay apart",
        newer={"infinity": 17, "-infinity": 17},
    ),
)  # fmt: skip

BINARY = (
    Case("bytea", ("\\x", "\\x00", "\\x5c78", f"\\x{bytes(range(256)).hex()}", f"\\x{bytes(range(256)).hex() * 1000}")),
    Case("bit(4)", ("0000", "1010", "1111"), "text"),
    Case("bit varying", ("", "0", "1" * 100), "text"),
)

_JSON = (
    "null", "true", '""', "-0.0", "1e400", "12345678901234567890.12345678901234567890", "[]", "{}",
    '{"a": {"b": [1, null, "x"]}, "ü": "\\u00fc\\ud83d\\ude80 \\" \\\\ \\n"}', "[" * 200 + "]" * 200,
)  # fmt: skip

JSON = (
    Case(
        "json",
        (*_JSON, ' {"spaces" : 1 ,\n"a": 1, "a": 2} ', '"\\u0000"'),
        "json",
        "the text itself: blanks, double keys and the order of keys stay",
    ),
    Case("jsonb", _JSON, "json", "as the server prints it"),
    Case("boolean[]", ("{}", "{t,f,NULL}", "{{t},{f}}"), "array"),
    Case("integer[]", ("{}", "{1,NULL,-2147483648}", "{{1,2},{3,4}}", "{{{1},{2}},{{3},{NULL}}}"), "array"),
    Case("bigint[]", ("{9223372036854775807,-9223372036854775808,9007199254740993}",), "array", "every digit stays"),
    Case(
        "numeric[]",
        ("{}", f"{{0.00,1.10,-1e-30,1e40,{_LONG},NaN,NULL}}", "{{1.5,NULL},{2.50,0}}", "{Infinity,-Infinity}"),
        "array",
        'every digit stays; NaN and infinities are the strings "NaN", "Infinity" and "-Infinity"',
        newer={"{Infinity,-Infinity}": 14},
    ),
    Case("double precision[]", (f"{{{','.join(_FLOATS)},5e-324,1e23,NULL}}",), "array", "as numeric[]"),
    Case("real[]", (f"{{{','.join(_FLOATS)},3.4028235e38,16777217}}",), "array", "as numeric[]"),
    Case(
        "text[]",
        (
            "{}",
            '{NULL,"NULL","","null"}',
            '{"a,b","c\\"d","{e}","f\\\\g"," h "}',
            '{{"a\nb",NULL},{"\ufeff","🚀"}}',
            '{"\t","\r\n"}',
        ),
        "array",
    ),
    Case("character(3)[]", ("{a,abc,NULL}",), "array", "with the blanks at the end"),
    Case("date[]", ("{2024-02-29,0044-03-15 BC,infinity,-infinity,5874897-12-31,NULL}",), "array of text"),
    Case(
        "timestamp[]",
        ('{"2024-02-29 12:34:56.789","0044-03-15 12:00:00 BC",infinity,"294276-12-31 23:59:59.999999",NULL}',),
        "array of text",
        "ISO 8601, with a T",
    ),
    Case(
        "timestamp with time zone[]",
        ('{"2024-02-29 12:34:56.789+02","0044-03-15 12:00:00+00 BC",-infinity,NULL}',),
        "array of text",
        "ISO 8601, with a T, in UTC",
    ),
    Case("interval[]", ('{"1 year -2 days","720:00:00",NULL}',), "array of text"),
    Case("oid[]", ("{1,4294967295,NULL}",), "array of text", "elements as strings"),
    Case("uuid[]", ("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}",), "array of text"),
    Case("bytea[]", ('{"\\\\x00ff","\\\\x",NULL}',), "array", "elements as hex, with \\x before it"),
    Case("json[]", ('{"{\\"a\\": 1, \\"a\\": 2}","[1.50]","\\"x\\"",NULL}',), "array of json"),
    Case("jsonb[]", ('{"{\\"b\\": 1, \\"a\\": 1e400}","[1.50]",NULL}',), "array of json"),
    Case("own.status[]", ('{new,"say \\"hi\\"","NULL",NULL}',), "array of text", label="array of an enum"),
    Case("own.ids", ("{}", "{1,NULL}"), "array", label="domain over `integer[]`"),
    Case(
        "own.pair[]",
        ('{"(1,\\"a,b\\")","(,)",NULL}',),
        "array",
        "each element a JSON object",
        "array of a composite type",
    ),
    Case(
        "own.item[]",
        ('{"(\\"a \\"\\"b\\"\\"\\",1.50,\\"{\\"\\"(1,x)\\"\\",NULL}\\",\\"2024-02-29 12:00:00\\")"}',),
        "array",
        "their composite types, arrays and times in JSON too",
        "array of a composite type with composite types in it",
    ),
    Case("int4range[]", ('{"[1,10)",empty,NULL}',), "array of text"),
    Case("inet[]", ("{10.0.0.1,10.0.0.0/8,NULL}",), "array of text"),
    Case("money[]", ("{1.50,NULL}",), "array of text"),
)

OTHERS = (
    Case("boolean", ("true", "false")),
    Case("uuid", ("00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), "text"),
    Case("own.price", ("0", "1.50", "9999999999.99"), label="domain over `numeric(12,2)`"),
    Case("own.discount", ("0", "1.50", "99.99"), label="domain over that domain"),
    Case("own.pair", ("(1,)", '(,"")', '(-1,"a ""b"", \\\\ (c)\n")', "(,)"), "text", label="composite type"),
    Case(
        "own.item",
        ('("a,b",1.50,"{""(1,x)"",NULL}","2024-02-29 12:00:00")', "(,NaN,{},infinity)"),
        "text",
        label="composite type with composite types in it",
    ),
    Case("int4range", ("[1,10)", "empty", "(,)", "(,5)", "[-2147483648,)"), "text"),
    Case("int8range", ("[-9223372036854775808,9223372036854775807)", "empty"), "text"),
    Case("numrange", ("[0.10,1.50]", "(,NaN)", "empty"), "text"),
    Case("daterange", ("[0044-03-15 BC,infinity)", "[2024-01-01,)", "empty"), "text"),
    Case("tsrange", ('["2024-01-01 00:00:00","9999-12-31 23:59:59.999999"]', "(-infinity,infinity)"), "text"),
    Case("tstzrange", ('["2024-01-01 00:00:00+02",)', "empty"), "text", "in UTC"),
    Case("own.textrange", ('["a,b","c""d")', "(,)"), "text", label="range type of one's own"),
    Case("int4multirange", ("{}", "{[1,3),[5,9)}", "{(,)}"), "text", since=14),
    Case("datemultirange", ("{[0044-03-15 BC,2024-01-01),[2025-01-01,infinity)}",), "text", since=14),
    Case(
        "money", ("-92233720368547758.08", "0", "1234.50", "92233720368547758.07"), "text", "with the currency's sign"
    ),
    Case("inet", ("10.0.0.1", "10.1.2.3/8", "::1", "2001:db8::/32"), "text"),
    Case("cidr", ("10.0.0.0/8", "10.0.0.1/32", "::/0"), "text"),
    Case("macaddr", ("08:00:2b:01:02:03",), "text"),
    Case("macaddr8", ("08:00:2b:01:02:03:04:05",), "text"),
    Case("point", ("(1,-2.5)", "(0.1,1e300)", "(NaN,Infinity)", "(-0,0)"), "text"),
    Case("line", ("{1,-2,3.5}",), "text"),
    Case("lseg", ("[(0,0),(1,1e-300)]",), "text"),
    Case("box", ("(2,2),(-1,0.1)",), "text"),
    Case("path", ("[(0,0),(1,1)]", "((0,0),(1,1),(0.1,2))"), "text", "open and closed stay apart"),
    Case("polygon", ("((0,0),(1,1),(0.1,2))",), "text"),
    Case("circle", ("<(0.1,0.2),3>",), "text"),
    Case(
        "tsvector",
        (
            "",
            "'fat':2A,4B 'it''s':1 'b\\\\s'",
        ),
        "text",
    ),
    Case("tsquery", ("", "'fat' & !( 'rat':AB | 'it''s' <-> 'x':* )"), "text"),
    Case("jsonpath", ('$."a b"[*] ? (@.x > 1.50)',), "text"),
    Case("pg_lsn", ("0/0", "FFFFFFFF/FFFFFFFF"), "text"),
    Case("xid8", ("0", "18446744073709551615"), "text", since=13),
    Case("tid", ("(0,1)", "(4294967295,65535)"), "text"),
    Case("regclass", ("pg_class", "0"), "text", "the name, not the number"),
    Case(
        "xml",
        ("<a>b</a>", "x &amp; y", '<?xml version="1.0" encoding="UTF-8"?><a b="ü"/>'),
        "text",
        "without the declaration of an encoding, as the server sends it; seen where the server has libxml",
        same=False,
    ),
    Case("own.date", ("today", "2024-01-01"), label="enum that is called `date`"),
    Case("own.json", ("{", "a"), label="enum that is called `json`"),
    Case("own.bool", ("t", "f"), label="enum that is called `bool`"),
    Case("own.float8", ("1e3", "1000"), label="enum that is called `float8`"),
)

GROUPS = {
    "Numbers": NUMBERS,
    "Text": TEXT,
    "Times": TIMES,
    "Binary": BINARY,
    "JSON and arrays": JSON,
    "Everything else": OTHERS,
}
