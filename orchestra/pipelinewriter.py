"""A pipeline as YAML, always in the same form.

Keys stand in the order in which Orchestra writes them, what is not set is left out, and texts stay readable: those of
several lines as blocks, no line folded, and everything quoted that another reader of YAML could take for a number, a
date or a truth.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import BaseModel

from orchestra.pipeline import Pipeline

# What YAML 1.1 or 1.2 could read as something else; PyYAML itself quotes only what 1.1 could.
_NUMBERLIKE = re.compile(r"[-+.]?\d[\d_.,:eExXoObB+-]*|0[xob][\da-fA-F]+|(?i:true|false|null|yes|no|on|off|y|n|~)")

# Line breaks to some readers and not to others.
_ODD_BREAKS = "\r\x85\u2028\u2029\ufeff"


class _Dumper(yaml.SafeDumper):
    """Block style, no aliases, lists indented under their key."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None
    if "\n" in value and _as_block(value):
        style = "|"
    elif any(letter in _ODD_BREAKS for letter in value):
        style = '"'
    elif _NUMBERLIKE.fullmatch(value):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _as_block(value: str) -> bool:
    """Tell whether a block says exactly this: no spaces at the ends of lines, none before the first, no controls."""
    lines = value.split("\n")
    return (
        all(line == line.rstrip() for line in lines)
        and bool(lines[0])
        and not lines[0][0].isspace()
        and all(letter == "\n" or letter.isprintable() for letter in value)
    )


_Dumper.add_representer(str, _text)


def dump_pipeline(pipeline: Pipeline, header: str = "") -> str:
    """Return a pipeline as YAML; the same pipeline gives the same text.

    Args:
        header: A comment for the top, without its ``#``; several lines are several lines.
    """
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    return comment + yaml.dump(_plain(pipeline), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31 - 1)


def _plain(value: Any) -> Any:
    """Return mappings and lists of a model without the keys that are not set; what is inside parameters stays."""
    if isinstance(value, BaseModel):
        return {key: _plain(one) for key, one in value if one is not None}
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
