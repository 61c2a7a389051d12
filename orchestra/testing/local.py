"""Orchestra on this machine: pipelines from a folder, their runs by script, kept in a file if one is named."""

from __future__ import annotations

import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from orchestra.testing.double import OrchestraDouble
from orchestra.testing.pipeline import Pipeline
from orchestra.testing.schema import problems
from orchestra.testing.script import Attempt, Script, TaskScript, load_script
from orchestra.testing.store import Store
from runner.errors import UsageError

_REMEMBERED = 1000


def local_orchestra(
    *, port: int, key: str, pipelines: Path | None = None, state: Path | None = None, seconds: float = 2.0
) -> OrchestraDouble:
    """Return a double for a person: it works until it is told to stop, and forgets what it was asked long ago.

    Args:
        pipelines: A folder of definitions; the name of a file without its ending is the alias. A file
            ``<alias>.script.yml`` beside one says what becomes of its runs.
        state: The file where everything is kept.
        seconds: How long a task takes of which no script says it.

    Raises:
        UsageError: A definition, a script or the file is wrong.
    """
    try:
        store = None if state is None else Store(state)
        double = OrchestraDouble(port=port, key=key, store=store)
    except (sqlite3.Error, OSError, ValueError) as error:
        raise UsageError(f"{state} holds no state of Orchestra: {error}") from error
    double.seen = deque(maxlen=_REMEMBERED)
    workspace = double.workspace
    workspace.start_after = 0.0
    workspace.script = Script(otherwise=TaskScript(attempts=[Attempt(seconds=seconds)]))
    workspace.folder = Path.cwd()
    for path, text in _definitions(pipelines) if pipelines is not None else ():
        scripted = path.with_name(f"{path.stem}.script.yml")
        script = load_script(scripted) if scripted.is_file() else None
        found = workspace.find(path.stem)
        if found is None:
            found = workspace.add(path.stem, text)
        elif found.yaml != text:
            found.add(text, workspace.now(), publish=True)
        found.script = script
        workspace.keep(found)
    return double


def _definitions(folder: Path) -> Iterator[tuple[Path, str]]:
    """Give the definitions of a folder."""
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}")
    for path in sorted((*folder.glob("*.yml"), *folder.glob("*.yaml"))):
        if path.stem.endswith(".script"):
            continue
        try:
            text = path.read_text("utf-8")
            document = yaml.safe_load(text)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is no YAML: {error}") from error
        if not isinstance(document, dict):
            raise UsageError(f"{path} is no pipeline")
        for wrong in problems(document):
            raise UsageError(f"{path}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}")
        yield path, text


def serve(double: OrchestraDouble, wait: Callable[[], object]) -> None:
    """Serve until ``wait`` returns, and say how it is reached.

    Raises:
        UsageError: The port is taken.
    """
    try:
        double.__enter__()
    except OSError as error:
        raise UsageError(f"The server cannot listen: {error.strerror or error}") from error
    try:
        workspace = double.workspace
        sys.stdout.write(
            f"address:    {double.url}\n"
            f"key:        {double.key}\n"
            f"pipelines:  {', '.join(sorted(map(_named, workspace.pipelines.values()))) or 'none'}\n"
            f"runs:       {len(workspace.runs)}\n\n"
            f"export ORCHESTRA_API_KEY={double.key}\n"
            f"export ORCHESTRA_BASE_URL={double.base_url}\n"
            f"export ORCHESTRA_WEBHOOK_URL={double.url}  # orchestra-sdk\n"
            f"export BASE_URL={double.url}  # orchestra-cli\n"
        )
        sys.stdout.flush()
        wait()
    finally:
        double.__exit__(None, None, None)


def _named(pipeline: Pipeline) -> str:
    return pipeline.alias or pipeline.id
