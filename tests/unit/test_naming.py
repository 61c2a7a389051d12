"""Names at the destination are dlt's; quoting is SQL's."""

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.naming import literal, normalise, quote


@pytest.fixture(scope="session")
def convention():
    from dlt.common.normalizers.naming.snake_case import NamingConvention

    return NamingConvention


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("users", "users"),
        ("UserOrders", "user_orders"),
        ("HTTPServer", "http_server"),
        ("Back Office", "back_office"),
        ("2fa", "_2fa"),
        ("a+b", "axb"),
        ("e@mail", "eamail"),
        ("a__b", "a_b"),
        ("trailing_", "trailingx"),
        ("größe", "gr_e"),
        ("  padded  ", "padded"),
    ],
)
def test_names(name, expected):
    assert normalise(name, 63) == expected


def test_long_names_are_shortened_and_stay_apart():
    one, two = normalise("a" * 100 + "b", 63), normalise("a" * 100 + "c", 63)
    assert len(one) == len(two) == 63
    assert one != two
    assert one == normalise("a" * 100 + "b", 63)


names = st.text(min_size=1).filter(lambda text: text.strip())


@settings(max_examples=1000, deadline=None)
@given(name=names)
@example(name="_")
@example(name="___")
@example(name="Ünïcode" * 12)
@example(name="a" * 63)
@example(name="A" * 64)
@example(name="x_" * 40)
@example(name="\u0661\u0662")
@example(name="a\u00a0b")
def test_names_are_those_of_dlt(convention, name):
    assert normalise(name, 63) == convention(max_length=63).normalize_identifier(name)


@settings(max_examples=300, deadline=None)
@given(name=st.from_regex(r"[A-Za-z0-9_ +@|*-]{1,90}", fullmatch=True).filter(str.strip), limit=st.integers(16, 70))
def test_names_of_any_length_are_those_of_dlt(convention, name, limit):
    expected = convention(max_length=limit).normalize_identifier(name)
    assert normalise(name, limit) == expected
    assert len(expected) <= limit


@pytest.mark.parametrize(("name", "quoted"), [("a", '"a"'), ('say "hi"', '"say ""hi"""'), ("", '""')])
def test_quote(name, quoted):
    assert quote(name) == quoted


@pytest.mark.parametrize(("value", "quoted"), [("a", "'a'"), ("it's", "'it''s'"), ("\\", "'\\'")])
def test_literal(value, quoted):
    assert literal(value) == quoted


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1))
def test_quoted_text_survives_sql(text):
    with duckdb.connect() as connection:
        relation = connection.execute(f"select {literal(text)} as {quote(text)}")
        assert relation.description[0][0] == text
        assert relation.fetchone() == (text,)
