"""Run a command, at least once: the event is in its environment."""

from __future__ import annotations

import json
import os
import shlex
import signal
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import Any

import anyio
from anyio.abc import Process
from pydantic import Field, field_validator

from runner.errors import DeliveryRefused, NotDelivered
from runner.secrets import redact
from runner.units import Duration
from sensors.action import Action, ActionConfig, Delivery, Sent
from sensors.templates import check, render

_TAIL = 20
_PATIENCE = 10.0
_SHELL = {"|", "||", "&", "&&", ";", "<"}
_LAST_WORDS = 1.0
_READ = 2**16
_LONGEST_LINE = 4000
# Linux takes 128 KiB for one variable, and two megabytes for all of them.
_LONGEST = 32 * 2**10


class CommandConfig(ActionConfig):
    """A command."""

    command: str | list[str] = Field(description="template; a text is split as a shell would, and no shell runs it")
    timeout: Duration = timedelta(hours=1)
    env: dict[str, str] = Field(default_factory=dict, repr=False, description="templates; added to the environment")
    folder: str | None = Field(None, description="working directory; that of the file by default")

    @field_validator("command", "env")
    @classmethod
    def _templates(cls, value: Any) -> Any:
        check(value)
        return value

    @field_validator("command")
    @classmethod
    def _no_shell(cls, command: Any) -> Any:
        words = shlex.split(command) if isinstance(command, str) else []
        wrong = next((word for word in words if word in _SHELL or word.startswith(("$", ">", "2>"))), None)
        if wrong is not None:
            raise ValueError(
                f"no shell runs it, so {wrong!r} would be an argument; write [sh, -c, '…'] if you need one"
            )
        return command


class Command(Action[CommandConfig]):
    """Runs a command."""

    kind = "command"
    config_model = CommandConfig
    promise = "at least once"

    def describe(self) -> str:
        command = self.config.command
        return f"runs {shlex.split(command)[0] if isinstance(command, str) else command[0]}"

    async def send(self, delivery: Delivery) -> Sent:
        names = delivery.names()
        command = self.config.command
        # Split before it is filled in: a value with blanks stays one argument.
        words = [str(render(word, names)) for word in (shlex.split(command) if isinstance(command, str) else command)]
        folder = self.folder / self.config.folder if self.config.folder else self.folder
        own = {name: str(render(value, names)) for name, value in self.config.env.items()}
        code, lines = await execute(words, delivery, folder, self.config.timeout.total_seconds(), own)
        if code == 0:
            return Sent(outputs={"exit_code": 0, "output": lines[-1] if lines else ""})
        raise NotDelivered(f"{words[0]} ended with exit code {code}: {' / '.join(lines[-3:]) or 'it said nothing'}")


async def execute(
    words: Sequence[str], delivery: Delivery, folder: Path, timeout: float, own: Mapping[str, str] | None = None
) -> tuple[int, list[str]]:
    """Run a program with RUN_KEY, SENSOR, EVENT and EVENT_<NAME> in its environment.

    An event that is too long for that is in the file that EVENT_FILE names, while the program runs. It is ended with
    its children when the time is over, or when the caller is cancelled.

    Returns:
        Its exit code, and the last lines that it wrote, secrets redacted.

    Raises:
        DeliveryRefused: There is no such program.
        NotDelivered: It took too long.
    """
    with tempfile.TemporaryDirectory(prefix="event-") as place:
        environ = {**os.environ, **_variables(delivery, Path(place)), **(own or {})}
        return await _execute(words, environ, folder, timeout)


async def _execute(
    words: Sequence[str], environ: Mapping[str, str], folder: Path, timeout: float
) -> tuple[int, list[str]]:
    # A pipe of our own: the process has ended when it ends, whoever holds its output open after it.
    output, its_end = os.pipe()
    try:
        try:
            process = await anyio.open_process(
                list(words),
                cwd=folder,
                env=environ,
                stdin=DEVNULL,
                stdout=its_end,
                stderr=STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise DeliveryRefused(f"{words[0]} cannot be started: {error.strerror}.") from error
        finally:
            os.close(its_end)
        lines: deque[str] = deque(maxlen=_TAIL)
        ended = False
        try:
            with anyio.move_on_after(timeout):
                async with anyio.create_task_group() as group:
                    group.start_soon(_read, output, lines)
                    await process.wait()
                    ended = True
                    group.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS
        finally:
            if not ended:
                with anyio.CancelScope(shield=True):
                    await _end(process)
    finally:
        os.close(output)
    if not ended:
        raise NotDelivered(f"{words[0]} did not end within {timeout:g} s.")
    assert process.returncode is not None
    return process.returncode, [redact(line) for line in lines]


def _variables(delivery: Delivery, place: Path) -> dict[str, str]:
    event = json.dumps(dict(delivery.values))
    found = {"RUN_KEY": delivery.run_key.replace("\0", ""), "SENSOR": delivery.sensor}
    if len(event) <= _LONGEST:
        found["EVENT"] = event
    else:
        file = place / "event.json"
        file.write_text(event, "utf-8")
        found["EVENT_FILE"] = str(file)
    for name, value in delivery.values.items():
        text = str(value).replace("\0", "").encode("utf-8", "backslashreplace").decode()
        if name.isidentifier() and isinstance(value, str | int | float) and len(text) <= _LONGEST:
            found[f"EVENT_{name.upper()}"] = text
    return found


async def _read(output: int, lines: deque[str]) -> None:
    """Keep the last lines of what a process writes."""
    os.set_blocking(output, False)
    rest = b""
    try:
        while True:
            await anyio.wait_readable(output)
            data = os.read(output, _READ)
            if not data:
                break
            *whole, rest = (rest + data).split(b"\n")
            lines.extend(_line(line) for line in whole)
            rest = rest[-_LONGEST_LINE:]
    finally:
        if rest:
            lines.append(_line(rest))


def _line(text: bytes) -> str:
    return text[:_LONGEST_LINE].decode("utf-8", "replace")


async def _end(process: Process) -> None:
    """Ask a process and its children to end, and end them."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with anyio.move_on_after(_PATIENCE):
            await process.wait()
            return
