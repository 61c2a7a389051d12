"""Expressions: where they are, and how they are read."""

import ast

import pytest

from orchestra.validation.expressions import ExpressionError, expressions, without_expressions


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("no {{ expression }} ${x}", []),
        ("a ${{ b }} c ${{d}}", ["${{ b }}", "${{d}}"]),
        ("${{ {'a': {'b': 1}} }}", ["${{ {'a': {'b': 1}} }}"]),
        ("${{ '}}' }}", ["${{ '}}' }}"]),
        ("${{ it's }} and ${{ that's }}", ["${{ it's }}", "${{ that's }}"]),
        ("${{ a } ${{ b }}", ["${{ a } ${{ b }}"]),
        ("${{ a", ["${{ a"]),
    ],
)
def test_where_they_are(text, found):
    assert [one.source for one in expressions(text)] == found


def test_what_is_around_them_stays():
    assert without_expressions("a${{ b }}c${{ d }}", "1") == "a1c1"


def test_places_count_letters_and_lines():
    (expression,) = expressions("x ${{ 'ü' ==\n  foo }}")
    tree = expression.parse()
    foo = next(node for node in ast.walk(tree) if isinstance(node, ast.Name))
    assert expression.source[expression.offset_of(foo) :] == "foo }}"


@pytest.mark.parametrize(
    "text",
    ["${{ " + "(" * 300 + ")" * 300 + " }}", "${{ " + "-" * 9000 + "1 }}", "${{ a\x00b }}", "${{ " + "a" * 20000 + " }}",
     "${{ import os }}", "${{ a = 1 }}", "${{ a := 1 }}", "${{ f'{a}' }}", "${{ {1, 2} }}", "${{ f(*a) }}", "${{ f(a=1) }}",
     "${{ yield }}", "${{ await a }}", "${{ a if b }}", "${{ 'a\\", "${{ ~1 }}", "${{ a << 2 }}"],
)  # fmt: skip
def test_what_is_no_expression(text):
    (expression,) = expressions(text)
    with pytest.raises(ExpressionError) as caught:
        expression.parse()
    assert 0 <= caught.value.offset <= len(text)
