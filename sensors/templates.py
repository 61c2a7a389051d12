"""Templates over an event's values: ``{name}``, ``{row[id]}`` or ``{row.id}``, ``{size:,}``."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from runner.document import nearest
from runner.errors import UsageError

_WHOLE = re.compile(r"\{([^{}!:]+)\}")


class _Formatter(string.Formatter):
    """Dots and brackets lead into a value alike, and never to what Python knows of it."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        first, *path = re.split(r"[.\[]", field_name)
        value = kwargs[first]
        for step in path:
            name = step.removesuffix("]")
            value = value[int(name)] if isinstance(value, list) else value[name]
        return value, first


_formatter = _Formatter()


def render(template: Any, values: Mapping[str, Any]) -> Any:
    """Fill in a template, deeply; a text that is one placeholder becomes the value itself, of its own type.

    ``{{`` and ``}}`` stand for braces.

    Raises:
        UsageError: It names a value that there is not.
    """
    if isinstance(template, Mapping):
        return {key: render(item, values) for key, item in template.items()}
    if isinstance(template, list):
        return [render(item, values) for item in template]
    if not isinstance(template, str):
        return template
    whole = _WHOLE.fullmatch(template)
    try:
        if whole is not None:
            return _formatter.get_field(whole[1], (), values)[0]
        return _formatter.vformat(template, (), values)
    except KeyError as error:
        name = str(error.args[0])
        near = nearest(name, values)
        raise UsageError(
            f"The template {template!r} names {name!r}, which the event does not have."
            + (f" Did you mean {near!r}?" if near else ""),
            guidance=f"It has: {', '.join(sorted(values))}.",
        ) from None
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise UsageError(f"The template {template!r} cannot be filled in: {error}.") from None


def check(template: Any) -> None:
    """See that a template can be parsed.

    Raises:
        ValueError: It cannot.
    """
    if isinstance(template, Mapping):
        for item in template.values():
            check(item)
    elif isinstance(template, list):
        for item in template:
            check(item)
    elif isinstance(template, str):
        try:
            for _ in _formatter.parse(template):
                pass
        except ValueError as error:
            raise ValueError(f"{template!r} is no template: {error}; a brace that is meant is doubled") from None
