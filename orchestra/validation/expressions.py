"""The expressions of Orchestra: where they are in a text, and what they are made of.

An expression stands in ``${{`` and ``}}`` and is written like one of Python: names, subscripts, calls, comparisons,
``and``, ``or``, ``not``, ``in``, ``is``, arithmetic, lists. So Python's own parser reads it; what Orchestra does not
know is refused afterwards.

Facts: Orchestra docs, "Conditional expressions".
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

OPENING, CLOSING = "${{", "}}"
_STRINGS = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_LONGEST = 10_000
_KNOWN = (
    ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Attribute, ast.Subscript, ast.Slice,
    ast.Name, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.IfExp, ast.Load, ast.boolop, ast.cmpop,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitOr, ast.Not, ast.USub, ast.UAdd,
)  # fmt: skip
_SAID = {
    ast.Lambda: "functions of one's own", ast.NamedExpr: "assignments", ast.JoinedStr: "formatted strings",
    ast.Set: "sets", ast.Starred: "stars", ast.keyword: "named arguments", ast.ListComp: "comprehensions",
    ast.GeneratorExp: "comprehensions", ast.DictComp: "comprehensions", ast.SetComp: "comprehensions",
}  # fmt: skip


class ExpressionError(ValueError):
    """An expression that cannot be read.

    Attributes:
        offset: Where, from the beginning of ``${{``.
    """

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True)
class Expression:
    """One expression of a text.

    Attributes:
        number: The how manieth of its text, from 0.
        start: Where its ``${{`` is in the text.
        source: All of it, ``${{`` and ``}}`` included; up to the end of the text where it is never closed.
        closed: Whether it is.
    """

    number: int
    start: int
    source: str
    closed: bool

    @property
    def body(self) -> str:
        """What stands between the braces."""
        return self.source[len(OPENING) : -len(CLOSING)] if self.closed else self.source[len(OPENING) :]

    def parse(self) -> ast.expr:
        """Return what it is made of; see ``offset_of`` for places.

        Raises:
            ExpressionError: Orchestra cannot read it either.
        """
        if not self.closed:
            raise ExpressionError("the expression is never closed: '}}' is missing.")
        if not self.body.strip():
            raise ExpressionError("the expression is empty.")
        if len(self.body) > _LONGEST:
            raise ExpressionError(f"the expression has more than {_LONGEST:,} letters.")
        self._check_brackets()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # In brackets, because it may be folded over several lines.
                tree = ast.parse(f"({self.body}\n)", mode="eval").body
        except SyntaxError as error:
            offset = self._offset(error.lineno or 1, (error.offset or 1) - 1, utf8=False)
            raise ExpressionError("the expression cannot be read from here on.", offset) from None
        except (RecursionError, MemoryError, ValueError):
            raise ExpressionError("the expression cannot be read.") from None
        for node in ast.walk(tree):
            if not isinstance(node, _KNOWN):
                said = _SAID.get(type(node), f"{type(node).__name__.lower()} here")
                raise ExpressionError(f"Orchestra's expressions know no {said}.", self.offset_of(node))
        return tree

    def _check_brackets(self) -> None:
        """See that strings and brackets close, in words that do not depend on the version of Python."""
        at, opened = len(OPENING), list[tuple[str, int]]()
        end = len(OPENING) + len(self.body)
        while at < end:
            letter, string = self.source[at], _STRINGS.match(self.source, at, end)
            if string:
                at = string.end()
                continue
            if letter in "'\"":
                raise ExpressionError("this quote is never closed.", at)
            if letter in "([{":
                opened.append((letter, at))
            elif letter in ")]}" and (not opened or opened.pop()[0] != "([{"[")]}".index(letter)]):
                raise ExpressionError(f"this {letter!r} closes nothing.", at)
            at += 1
        if opened:
            raise ExpressionError(f"this {opened[-1][0]!r} is never closed.", opened[-1][1])

    def offset_of(self, node: ast.AST) -> int:
        """Return where a part of it begins, from the beginning of ``${{``."""
        return self._offset(getattr(node, "lineno", 1), getattr(node, "col_offset", 1), utf8=True)

    def _offset(self, line: int, column: int, *, utf8: bool) -> int:
        lines = f"({self.body}".split("\n")
        if line > len(lines):
            return len(self.source) - len(CLOSING)
        text = lines[line - 1]
        if utf8:
            column = len(text.encode()[:column].decode(errors="ignore"))
        before = sum(len(one) + 1 for one in lines[: line - 1])
        return min(max(before + column - 1, 0) + len(OPENING), len(self.source))


def expressions(text: str) -> Iterator[Expression]:
    """Return the expressions of a text, in order."""
    end = number = 0
    while (start := text.find(OPENING, end)) >= 0:
        closing = _closing(text, start + len(OPENING))
        end = len(text) if closing is None else closing + len(CLOSING)
        yield Expression(number, start, text[start:end], closing is not None)
        number += text.count(OPENING, start, end)


def without_expressions(text: str, instead: str) -> str:
    """Return a text with something else in the place of each expression."""
    for found in reversed(list(expressions(text))):
        text = text[: found.start] + instead + text[found.start + len(found.source) :]
    return text


def _closing(text: str, begin: int) -> int | None:
    """Return where the braces close, strings and mappings left aside; None where they do not."""
    at, depth = begin, 0
    while at < len(text):
        string = _STRINGS.match(text, at)
        if string and OPENING not in string.group():
            at = string.end()
        elif text[at] == "{":
            depth, at = depth + 1, at + 1
        elif text[at] == "}" and depth:
            depth, at = depth - 1, at + 1
        elif text.startswith(CLOSING, at):
            return at
        elif text.startswith(OPENING, at):
            break
        else:
            at += 1
    # A quote that is never closed is a mistake inside the braces, and not one of the braces.
    plain = text.find(CLOSING, begin)
    other = text.find(OPENING, begin)
    return plain if plain >= 0 and (other < 0 or plain < other) else None


def dotted(node: ast.expr) -> tuple[ast.expr, list[ast.expr]]:
    """Return the root of a chain of attributes, subscripts and calls, and its links from the root on."""
    links: list[ast.expr] = []
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        links.append(node)
        node = node.func if isinstance(node, ast.Call) else node.value
    return node, links[::-1]


def key_of(link: ast.AST) -> str | None:
    """Return the name after a dot, or the text in brackets; None where it is computed."""
    if isinstance(link, ast.Attribute):
        return link.attr
    if isinstance(link, ast.Subscript) and isinstance(link.slice, ast.Constant) and isinstance(link.slice.value, str):
        return link.slice.value
    return None
