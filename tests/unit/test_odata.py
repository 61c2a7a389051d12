"""Metadata that we do not trust, types, values, conditions of OData."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from connectors.odata import changes, literals
from connectors.odata.changes import CHANGE_MODE, COUNTER, _key_of_removed
from connectors.odata.columns import column, decoder, stripped
from connectors.odata.config import ODataConfig, SapConfig
from connectors.odata.edm import EntitySet, EntityType, Model, Property
from connectors.odata.metadata import parse_xml, read_model
from connectors.odata.reading import Request
from connectors.odata.service import Answer
from connectors.records import to_batch
from runner.errors import RequestRefused, Undecodable
from runner.source import Window

_LAUGHS = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><l>&b;</l>'
_OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><l>&x;</l>'
_PARAMETER = b'<?xml version="1.0"?><!DOCTYPE l SYSTEM "http://127.0.0.1:9/x.dtd"><l/>'


@pytest.mark.parametrize("document", [_LAUGHS, _OUTSIDE, _PARAMETER])
def test_a_document_type_is_refused_before_it_is_read(document: bytes) -> None:
    with pytest.raises(RequestRefused, match="document type"):
        parse_xml(document)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"<a>" * 100 + b"</a>" * 100, "deeper"),
        (b"<a><b></a>", "no XML"),
        (b"", "no XML"),
        (b"<html><body>log on</body></html>", "not \\$metadata"),
        (b'<Edmx Version="4.0"><x/></Edmx>', "not \\$metadata"),
    ],
)
def test_what_is_no_metadata(document: bytes, words: str) -> None:
    with pytest.raises(RequestRefused, match=words):
        read_model(document)


_V4 = """<edmx:Edmx Version="4.01" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="a.b" Alias="S" xmlns="http://docs.oasis-open.org/odata/ns/edm">
<EnumType Name="Colour"/><TypeDefinition Name="Weight" UnderlyingType="Edm.Decimal"/>
<EntityType Name="Base" Abstract="true"><Key><PropertyRef Name="ID"/></Key>
  <Property Name="ID" Type="Edm.Int64" Nullable="false"/></EntityType>
<EntityType Name="Thing" BaseType="S.Base"><Property Name="Colour" Type="S.Colour"/>
  <Property Name="Secret" Type="Edm.String"/><Property Name="Tags" Type="Collection(Edm.String)"/>
  <Property Name="At" Type="Edm.DateTimeOffset" Precision="6"><Annotation Term="S.x" String="n"/>
    <Annotation Term="Org.OData.Core.V1.Description" String="When"/></Property>
  <NavigationProperty Name="parts" Type="Collection(S.Part)" Partner="thing"/></EntityType>
<EntityType Name="Part"><Key><PropertyRef Name="thing_ID"/><PropertyRef Name="n"/></Key>
  <Property Name="thing_ID" Type="Edm.Int64" Nullable="false"/><Property Name="n" Type="Edm.Int32" Nullable="false"/>
  <NavigationProperty Name="thing" Type="S.Thing" Partner="parts">
    <ReferentialConstraint Property="thing_ID" ReferencedProperty="ID"/></NavigationProperty></EntityType>
<EntityContainer Name="C"><EntitySet Name="Things" EntityType="S.Thing">
  <Annotation Term="Org.OData.Capabilities.V1.ChangeTracking"><Record><PropertyValue Property="Supported" Bool="true"/>
  </Record></Annotation></EntitySet><EntitySet Name="Parts" EntityType="S.Part"/></EntityContainer>
<Annotations Target="S.C/Things"><Annotation Term="Capabilities.FilterRestrictions"><Record>
  <PropertyValue Property="NonFilterableProperties"><Collection><PropertyPath>Secret</PropertyPath></Collection>
  </PropertyValue></Record></Annotation></Annotations>
</Schema></edmx:DataServices></edmx:Edmx>"""


def test_metadata_of_version_4() -> None:
    model = read_model(_V4.encode())
    things = model.sets["Things"]
    assert (model.version, things.type.key, things.tracked) == (4, ("ID",), True)
    assert list(things.type.properties) == ["ID", "Colour", "Secret", "Tags", "At"]
    assert (things.type.properties["Secret"].usable, things.type.properties["At"].usable) == (False, True)
    assert things.type.properties["At"].label == "When"
    assert things.type.navigation["parts"].pairs == (("ID", "thing_ID"),)
    assert not model.sets["Parts"].tracked
    found = {prop.name: column(prop, model) for prop in things.type.properties.values()}
    assert {name: str(one.type) for name, one in found.items() if one} == {
        "ID": "int64",
        "Colour": "string",
        "Secret": "string",
        "Tags": "string",
        "At": "timestamp[us, tz=UTC]",
    }
    assert found["Tags"] is not None
    assert found["Tags"].json


def test_a_service_of_version_3_is_refused() -> None:
    document = (
        '<x:Edmx Version="1.0" xmlns:x="e"><x:DataServices m:DataServiceVersion="3.0" m:MaxDataServiceVersion="3.0" '
        'xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"/></x:Edmx>'
    )
    with pytest.raises(RequestRefused, match=r"3\.0"):
        read_model(document.encode())


_MODEL = Model(2, {})


def arrived(prop: Property, value: Any, version: int = 2) -> Any:
    one = column(prop, _MODEL)
    assert one is not None
    decode = decoder(one, version)
    return to_batch([{prop.name: decode(value) if decode else value}], [one], table="t").column(0)[0].as_py()


@pytest.mark.parametrize(
    ("version", "prop", "value", "wanted"),
    [
        (2, Property("a", "Edm.DateTime"), "/Date(1709164800123)/", datetime(2024, 2, 29, 0, 0, 0, 123000)),
        (2, Property("a", "Edm.DateTime"), "/Date(-62135596800000)/", datetime(1, 1, 1)),
        (2, Property("a", "Edm.DateTime"), "/Date(1709164800000+0000)/", datetime(2024, 2, 29)),
        (2, Property("a", "Edm.DateTime", dated=True), "/Date(253402214400000)/", date(9999, 12, 31)),
        (2, Property("a", "Edm.DateTimeOffset"), "/Date(0+0000)/", "1970-01-01T00:00:00+00:00"),
        (2, Property("a", "Edm.DateTimeOffset"), "/Date(3600000+0060)/", "1970-01-01T00:00:00+00:00"),
        (2, Property("a", "Edm.DateTimeOffset"), "/Date(0-0030)/", "1970-01-01T00:30:00+00:00"),
        (2, Property("a", "Edm.Time"), "PT23H59M58S", time(23, 59, 58)),
        (2, Property("a", "Edm.Time"), "PT1M", time(0, 1)),
        (2, Property("a", "Edm.Time"), "PT0S", time(0)),
        (2, Property("a", "Edm.Time"), "PT1H2M3.1230000S", time(1, 2, 3, 123000)),
        (2, Property("a", "Edm.Int64"), "9223372036854775807", 2**63 - 1),
        (2, Property("a", "Edm.Double"), "0.1", 0.1),
        (2, Property("a", "Edm.Double"), "-INF", float("-inf")),
        (2, Property("a", "Edm.Decimal", precision=38, scale="10"), "1.0000000001", Decimal("1.0000000001")),
        (2, Property("a", "Edm.Decimal", precision=40, scale="2"), "9" * 38 + ".99", "9" * 38 + ".99"),
        (2, Property("a", "Edm.Decimal"), "1.50", "1.50"),
        (2, Property("a", "Edm.Binary"), "AP8Q-_8=", bytes.fromhex("00ff10fbff")),
        (4, Property("a", "Edm.Binary"), "AP8Q-_8", bytes.fromhex("00ff10fbff")),
        (4, Property("a", "Edm.Decimal", precision=5, scale="variable"), 12, "12"),
        (4, Property("a", "Edm.Decimal", precision=5, scale="2"), 12.5, Decimal("12.50")),
        (4, Property("a", "Edm.Double"), "INF", float("inf")),
        (4, Property("a", "Edm.TimeOfDay"), "23:59:58.123", time(23, 59, 58, 123000)),
        (4, Property("a", "Edm.DateTimeOffset"), "2024-02-29T23:59:59.1234560Z", "2024-02-29T23:59:59.123456+00:00"),
        (4, Property("a", "Edm.DateTimeOffset"), "2024-02-29T23:59:59+01:00", "2024-02-29T22:59:59+00:00"),
        (4, Property("a", "Edm.Date"), "2024-02-29", date(2024, 2, 29)),
        (4, Property("a", "Edm.Byte"), 255, 255),
        (4, Property("a", "Edm.Duration"), "P1DT2H", "P1DT2H"),
        (4, Property("a", "N.Address"), {"@odata.type": "x", "zip": "1"}, '{"zip":"1"}'),
        (4, Property("a", "Edm.String", collection=True), ["b"], '["b"]'),
    ],
)
def test_values_arrive_exactly(version: int, prop: Property, value: Any, wanted: Any) -> None:
    found = arrived(prop, value, version)
    assert (found.isoformat() if isinstance(wanted, str) and isinstance(found, datetime) else found) == wanted


@pytest.mark.parametrize(
    ("version", "prop", "value"),
    [
        (2, Property("a", "Edm.DateTime", dated=True), "/Date(1709164800001)/"),
        (2, Property("a", "Edm.DateTime"), "/Date(999999999999999999)/"),
        (2, Property("a", "Edm.Time"), "PT24H"),
        (2, Property("a", "Edm.Time"), "P1DT1H"),
        (2, Property("a", "Edm.Decimal", precision=5, scale="2"), "1.234"),
        (4, Property("a", "Edm.DateTimeOffset"), "2024-02-29T23:59:59.1234567Z"),
        (4, Property("a", "Edm.Int32"), 2**31),
        (4, Property("a", "Edm.Binary"), "no base64!"),
    ],
)
def test_what_would_lose_something_is_refused(version: int, prop: Property, value: Any) -> None:
    with pytest.raises(Undecodable):
        arrived(prop, value, version)


def test_streams_are_left_out() -> None:
    assert column(Property("a", "Edm.Stream"), _MODEL) is None


def test_what_odata_says_about_values_is_no_value() -> None:
    assert stripped({"results": [{"a": 1, "__metadata": {}, "b": {"__deferred": {"uri": "x"}}}], "__next": "y"}) == [
        {"a": 1}
    ]
    assert stripped({"results": [], "other": 1}) == {"results": [], "other": 1}


@pytest.mark.parametrize(
    ("value", "kind", "two", "four"),
    [
        ("it's", "Edm.String", "'it''s'", "'it''s'"),
        (5, "Edm.Int32", "5", "5"),
        (5, "Edm.Int64", "5L", "5"),
        ("1.50", "Edm.Decimal", "1.50M", "1.50"),
        (
            "2024-01-01 00:00:00+00",
            "Edm.DateTimeOffset",
            "datetimeoffset'2024-01-01T00:00:00Z'",
            "2024-01-01T00:00:00Z",
        ),
        ("2024-01-01 00:00:00.5", "Edm.DateTime", "datetime'2024-01-01T00:00:00.5'", "2024-01-01T00:00:00.5"),
        ("2024-01-01", "Edm.DateTime", "datetime'2024-01-01T00:00:00'", "2024-01-01T00:00:00"),
        ("2024-01-01", "Edm.Date", "2024-01-01", "2024-01-01"),
        ("00000000-0000-4000-8000-000000000001", "Edm.Guid", "guid'00000000-0000-4000-8000-000000000001'", None),
        (True, "Edm.Boolean", "true", "true"),
        (None, "Edm.String", "null", "null"),
    ],
)
def test_literals(value: Any, kind: str, two: str, four: str | None) -> None:
    assert literals.literal(value, kind, 2) == two
    assert literals.literal(value, kind, 4) == (four or value)


@pytest.mark.parametrize("value", ["1 or 1 eq 1", "x' or 'a", "2024-01-01T00:00:00Z or true"])
@pytest.mark.parametrize("kind", ["Edm.Int32", "Edm.Guid", "Edm.DateTimeOffset", "Edm.Date"])
def test_nothing_gets_into_a_condition(value: str, kind: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        literals.literal(value, kind, 4)


def test_conditions_of_windows_and_keys() -> None:
    window = Window("c", "1", "9", from_start=True)
    assert literals.window(window, "Edm.Int32", 4, nullable=False) == "c ge 1 and c le 9"
    assert literals.window(window, "Edm.Int32", 4, nullable=True) == "(c ge 1 and c le 9) or c eq null"
    assert literals.window(Window("c", "1", "9", before_end=True, nulls=False), "Edm.Int32", 4, nullable=True) == (
        "c gt 1 and c lt 9"
    )
    assert literals.window(Window("c"), "Edm.Int32", 4, nullable=True) is None
    kinds = ["Edm.String", "Edm.Int32"]
    assert literals.beyond(["a", "b"], kinds, ["x", 1], 4) == "(a gt 'x') or (a eq 'x' and b gt 1)"
    assert literals.until(["a", "b"], kinds, ["x", 1], 4) == "(a lt 'x') or (a eq 'x' and b le 1)"
    assert literals.joined(["a or b", None, "c"]) == "(a or b) and (c)"


@pytest.mark.parametrize(
    ("removed", "wanted"),
    [
        ({"@removed": {"reason": "deleted"}, "a": "x", "b": 1}, {"a": "x", "b": 1}),
        ({"@removed": {}, "@id": "http://h/s/T(a='it''s%20(x,y)',b=2)"}, {"a": "it's (x,y)", "b": "2"}),
        ({"@removed": {}, "@id": "http://h/s/T(a='x')"}, None),
        ({"@removed": {}}, None),
        ({"@odata.context": "#T/$deletedEntity", "id": "T(a='it''s',b=2)"}, {"a": "it's", "b": "2"}),
    ],
)
def test_the_key_of_what_was_removed(removed: dict[str, Any], wanted: dict[str, Any] | None) -> None:
    properties = {"a": Property("a", "Edm.String"), "b": Property("b", "Edm.Int32")}
    asked = Request(EntitySet("T", EntityType("T", ("a", "b"), properties, {})), 4, None, None)
    if wanted is None:
        with pytest.raises(RequestRefused, match="without its key"):
            _key_of_removed(asked, removed)
    else:
        assert _key_of_removed(asked, removed) == wanted


@pytest.mark.parametrize(
    "keys",
    [
        {"url": "https://h/s?sap-client=1"},
        {"url": "https://h/s", "user": "u"},
        {"url": "https://h/s", "user": "u", "password": "p", "token": "t"},
        {"url": "https://h/s", "token_url": "https://h/t"},
        {"url": "https://h/s", "page_size": 0},
        {"url": "https://h/s", "version": 3},
        {"url": "https://h/s", "sap_client": "10"},
    ],
)
def test_keys_that_cannot_be_meant(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SapConfig.model_validate(keys)


def test_secrets_are_not_shown() -> None:
    config = ODataConfig(url="https://h/s/$metadata", user="u", password="hidden", api_key="hidden")
    assert config.url == "https://h/s"
    assert "hidden" not in repr(config)
    assert config.sent() == {"APIKey": "hidden"}
    assert pa.types.is_string(pa.string())


def record(key: str, value: str, mode: str, counter: str = "1") -> dict[str, Any]:
    return {"a": key, "v": value, CHANGE_MODE: mode, COUNTER: counter}


class Delta:
    """A service that answers a delta in two pages."""

    def __init__(self) -> None:
        self.config = SapConfig(url="https://h/s")

    async def entities(self, link: str, options: Any = (), *, prefer: Any = ()) -> Answer:
        if link == "T?!deltatoken='1'":
            rows = [record("x", "after", "U"), record("x", "before", "U", "-1"), record("y", "1", "U")]
            return Answer(rows, "T?$skiptoken=2", None, "")
        return Answer([record("x", "", "D", "-1"), record("y", "2", "U")], None, "T?!deltatoken='2'", "")


@pytest.mark.parametrize("at_once", [2, 50_000])
async def test_a_delta_is_what_counts_in_the_end(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_COLLAPSED", at_once)
    properties = {name: Property(name, "Edm.String") for name in ("a", "v", CHANGE_MODE, COUNTER)}
    asked = Request(EntitySet("T", EntityType("T", ("a",), properties, {}), tracked=True), 2, None, None)
    service: Any = Delta()
    pages = [page async for page in changes.since(service, asked, "T?!deltatoken='1'", "gone")]
    found = [[(row["a"], row["v"], row["gone"]) for row in page.rows] for page in pages]
    last = [("x", "", True), ("y", "2", False)]
    assert found == ([last] if at_once > 2 else [[("x", "after", False), ("y", "1", False)], last])
    # The mark comes with the last page, and with no other.
    assert [page.mark for page in pages] == [None] * (len(pages) - 1) + ["T?!deltatoken='2'"]
    if at_once == 2:
        rest = pages[0].rest
        assert rest is not None
        again = [page async for page in changes.go_on(service, asked, rest, "gone")]
        assert [(page.rows, page.mark) for page in again] == [(pages[1].rows, pages[1].mark)]
