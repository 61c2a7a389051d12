"""Files, folders and the standard input: what is wrong with the pipelines in them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from orchestra.validation.locations import Located
from orchestra.validation.pipelinecheck import check_pipeline
from orchestra.validation.problems import Findings, Problem
from orchestra.validation.refusals import place_in
from runner.commands.output import run_async
from runner.errors import SourceDown, Unreachable, UsageError
from runner.tasks import task_group

if TYPE_CHECKING:
    from orchestra.api.records import SchemaProblem

SUFFIXES = (".yml", ".yaml", ".oml")
_STDIN = "-"
_LARGEST = 16 * 2**20
_SKIPPED_FOLDERS = {"node_modules", "dbt_packages", "__pycache__"}


@dataclass(frozen=True)
class Checked:
    """One file, and what was found.

    Attributes:
        located: What was read; None where it is no text.
    """

    path: Path
    located: Located | None
    problems: Sequence[Problem]


@dataclass(frozen=True)
class Verdict:
    """What was found in all files.

    Attributes:
        files: How many were looked at.
        problems: In the order of paths, lines and columns.
    """

    files: int
    problems: Sequence[Problem]

    @property
    def errors(self) -> int:
        """How many mistakes there are."""
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def warnings(self) -> int:
        """How many warnings there are."""
        return len(self.problems) - self.errors

    def record(self, *, ok: bool) -> dict[str, Any]:
        """Return it for machines."""
        problems = [problem.record() for problem in self.problems]
        return {
            "ok": ok,
            "files": self.files,
            "errors": self.errors,
            "warnings": self.warnings,
            "problems": problems,
        }

    def summary(self) -> str:
        """Return it in a line."""
        counts = ((self.files, "pipeline"), (self.errors, "mistake"), (self.warnings, "warning"))
        return ", ".join(f"{number or 'no'} {word}{'' if number == 1 else 's'}" for number, word in counts)


def validate_files(names: Sequence[str], *, online: bool = False) -> Verdict:
    """Check pipelines.

    Args:
        names: Files, folders that are looked through, or ``-`` for the standard input.
        online: Whether Orchestra is asked too.

    Raises:
        UsageError: There is nothing to check.
        ContactError: Orchestra cannot be asked.
    """
    checked = [_check(path, text) for path, text in _texts(names)]
    if online:
        checked = run_async(lambda: _ask(checked))
    return Verdict(len(checked), sorted(problem for one in checked for problem in one.problems))


def _texts(names: Sequence[str]) -> Iterator[tuple[Path, str | Problem]]:
    """Return what is to be checked, each file once, with its text or why there is none."""
    seen: set[Path] = set()
    files: list[tuple[Path, bool]] = []
    for name in names:
        path = Path(name)
        if name != _STDIN and not path.exists():
            raise UsageError(f"{name}: no such file or folder.", guidance="Check the path.")
        if name != _STDIN and path.is_dir():
            found = list(_files(path))
            if not found:
                raise UsageError(f"{name}: no file in it ends with {', '.join(SUFFIXES)}.")
            files += [(file, True) for file in found]
        else:
            files.append((path, False))
    pipelines = 0
    for path, in_folder in files:
        if path in seen:
            continue
        seen.add(path)
        text = _read(path)
        if in_folder and isinstance(text, str) and not _looks_like_pipeline(text):
            continue
        pipelines += 1
        yield path, text
    if not pipelines:
        raise UsageError(f"There is no pipeline in {', '.join(names)}.", guidance="A pipeline has the key `pipeline`.")


def _files(folder: Path) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and one not in _SKIPPED_FOLDERS)
        for file in sorted(files):
            if file.endswith(SUFFIXES):
                yield Path(at, file)


def _looks_like_pipeline(text: str) -> bool:
    """Tell a pipeline from the other YAML of a folder, even one that cannot be read."""
    return re.search(r"^(pipeline|[\"']pipeline[\"'])\s*:", text, re.MULTILINE) is not None


def _read(path: Path) -> str | Problem:
    try:
        if str(path) == _STDIN:
            data = sys.stdin.buffer.read()
        else:
            if path.stat().st_size > _LARGEST:
                return Problem(path, 1, 1, f"this file is larger than {_LARGEST:,} bytes.")
            data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}.") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        return Problem(path, line, column, "this file is no UTF-8.", "Save it as UTF-8.")


def _check(path: Path, text: str | Problem) -> Checked:
    if isinstance(text, Problem):
        return Checked(path, None, [text])
    located = Located(text)
    return Checked(path, located, check_pipeline(text, path, located))


async def _ask(checked: Sequence[Checked]) -> list[Checked]:
    """Ask Orchestra about every file that holds a mapping."""
    from orchestra.api.workspace import Workspace
    from orchestra.client import open_client
    from runner.clock import SystemClock

    told: dict[int, list[Problem]] = {}
    workspace = await anyio.to_thread.run_sync(lambda: Workspace.of(api_key=None, keyless=True))

    async def ask(number: int, one: Checked, located: Located) -> None:
        try:
            told[number] = placed(await client.check_definition(located.data), one.path, located)
        except SourceDown as error:
            raise Unreachable(error.message, guidance="Without --online nobody else is asked.") from error

    async with open_client(workspace, SystemClock()) as client, task_group() as tasks:
        for number, one in enumerate(checked):
            if one.located is not None and not one.located.broken and isinstance(one.located.data, dict):
                tasks.start_soon(ask, number, one, one.located)
    return [
        Checked(one.path, one.located, [*one.problems, *_new(told.get(number, []), one.problems)])
        for number, one in enumerate(checked)
    ]


def placed(told: Iterable[SchemaProblem], path: Path, located: Located) -> list[Problem]:
    """Return what Orchestra says, where it belongs."""
    findings = Findings(path, located)
    for one in told:
        loc = one.loc[1:] if one.loc[:1] == ("body",) else one.loc
        at = place_in(located.knows, loc, one.type or "")
        place = located.value(at) if located.knows(at) and one.type != "extra_forbidden" else located.key(at)
        name = ".".join(map(str, at)) or "the pipeline"
        findings.add(place, f"Orchestra says of {name}: {one.msg.rstrip('.')}.")
    return findings.problems()


def _new(told: Sequence[Problem], known: Sequence[Problem]) -> list[Problem]:
    """Leave out what we say of the same place ourselves."""
    ours = {(problem.line, problem.column) for problem in known if problem.severity == "error"}
    return [problem for problem in told if (problem.line, problem.column) not in ours]
