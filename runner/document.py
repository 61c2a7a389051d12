"""A YAML document with the line of every key, so that a mistake is named where it stands."""

from __future__ import annotations

import difflib
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from runner.errors import JobFileError

# Thousands of entries are read ten times as fast by libyaml, where PyYAML was built with it.
_LOADER: typing.Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Path_ = tuple[str | int, ...]
_TEXTS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "timestamp", "binary")}


class Document:
    """A parsed YAML file.

    Attributes:
        data: Plain mappings, lists and scalars.
        lines: The line (from 1) of every key and item, by its path.
    """

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self.lines: dict[Path_, int] = {(): 1}
        if text is None:
            try:
                text = path.read_text("utf-8")
            except FileNotFoundError:
                raise JobFileError(f"{path}: no such file.", guidance="Check the path.") from None
            except (OSError, UnicodeDecodeError) as error:
                raise JobFileError(f"{path}: cannot be read: {error}.") from None
        try:
            node = yaml.compose(text, Loader=_LOADER)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else None
            problem = getattr(error, "problem", None) or "not valid YAML"
            raise JobFileError(f"{path}:{line or '?'}: {problem}.", line=line) from None
        self.data: dict[str, Any] = self._build(node, ()) if node is not None else {}
        if not isinstance(self.data, dict):
            raise JobFileError(f"{path}:1: the file must be a mapping of keys.", line=1)

    def _build(self, node: yaml.Node, path: Path_) -> Any:
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                line = key_node.start_mark.line + 1
                if key in mapping:
                    raise JobFileError(f"{self.path}:{line}: the key {key!r} stands twice.", line=line)
                self.lines[(*path, key)] = line
                mapping[key] = self._build(value_node, (*path, key))
            return mapping
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = item.start_mark.line + 1
            return [self._build(item, (*path, index)) for index, item in enumerate(node.value)]
        # Dates and such stay text: the models know what they expect.
        if node.tag in _TEXTS:
            return node.value
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError) as error:
            line = node.start_mark.line + 1
            raise JobFileError(f"{self.path}:{line}: {error}.", line=line) from None

    def line(self, path: Path_) -> int:
        """Return the line of a key, or of the nearest key around it."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def refuse(self, path: Path_, problem: str) -> JobFileError:
        """Return the error that names the file, the line and the key."""
        line, key = self.line(path), ".".join(str(part) for part in path)
        return JobFileError(f"{self.path}:{line}: {key}: {problem}", line=line, key=key)


ModelT = typing.TypeVar("ModelT", bound=BaseModel)


def validate(model: type[ModelT], data: Any, document: Document, at: Path_ = ()) -> ModelT:
    """Validate data against a model; a mistake names its line and the nearest known key.

    Raises:
        JobFileError: The first mistakes, one a line.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = dict.fromkeys(_problem(model, issue, document, at) for issue in error.errors())
        first = error.errors()[0]
        raise JobFileError(
            "\n".join(list(problems)[:8]), line=document.line((*at, *_keys(first["loc"], document, at)))
        ) from None


def _problem(model: type[BaseModel], issue: Any, document: Document, at: Path_) -> str:
    keys = _keys(issue["loc"], document, at)
    where = f"{document.path}:{document.line((*at, *keys))}: {'.'.join(str(key) for key in (*at, *keys))}"
    if issue["type"] == "extra_forbidden":
        near = nearest(str(keys[-1]), _fields(model, keys[:-1]))
        return f"{where}: unknown key." + (f" Did you mean {near!r}?" if near else "")
    if issue["type"] == "missing":
        return f"{where}: this key is needed."
    message = str(issue["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[0].lower() + message[1:]}."


def _keys(loc: tuple[Any, ...], document: Document, at: Path_) -> Path_:
    """Drop from a pydantic location what is not in the file: the members of unions."""
    keys: Path_ = ()
    for index, part in enumerate(loc):
        if (*at, *keys, part) in document.lines or index == 0 or index == len(loc) - 1:
            keys = (*keys, part)
    if len(keys) > 1 and (*at, *keys) not in document.lines and str(keys[-1]).partition("[")[0] in _MEMBERS:
        keys = keys[:-1]
    return keys


_MEMBERS = {"str", "int", "float", "bool", "list", "dict", "timedelta", "SourceSpec", "DestinationSpec", "Deletes"}
_MEMBERS |= {"literal", "function-before", "function-after"}


def _fields(model: Any, keys: Path_) -> list[str]:
    """Return the keys that a model knows at a place inside it."""
    for key in keys:
        # What is said of a list of models is said of each.
        model = model if isinstance(key, int) else _step(model, key)
        if model is None:
            return []
    return [field.alias or name for one in _models(model) for name, field in one.model_fields.items()]


def _step(annotation: Any, key: str | int) -> Any:
    for model in _models(annotation):
        for name, field in model.model_fields.items():
            if key in (name, field.alias):
                return field.annotation
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return args[1]
    for arg in args:
        found = _step(arg, key)
        if found is not None:
            return found
    return None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) is dict:
        return []
    return [model for arg in typing.get_args(annotation) for model in _models(arg)]


def nearest(word: str, known: typing.Iterable[str]) -> str | None:
    """Return the known word most like the given one, or None."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
