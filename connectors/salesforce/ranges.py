"""Ranges of ids, so that parts of an object can be read at once.

Facts: developer.salesforce.com, Object Reference, "ID Field Type" (15 characters of base 62, which grow with time);
Bulk API Developer Guide, "PK Chunking Header" (ranges of ids are how large objects are split).
"""

from __future__ import annotations

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 15


def split(first: str, last: str, parts: int) -> list[str]:
    """Return up to parts - 1 ids between two others, evenly apart; whatever they are, ranges between them cover all."""
    try:
        low, high = _number(first), _number(last)
    except ValueError:
        return []
    cuts = [low + (high - low) * part // parts for part in range(1, parts)]
    return [_text(cut) for cut in sorted(set(cuts)) if low <= cut < high]


def _number(text: str) -> int:
    number = 0
    for char in text[:_LENGTH]:
        number = number * len(_DIGITS) + _DIGITS.index(char)
    return number


def _text(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits.rjust(_LENGTH, "0")
