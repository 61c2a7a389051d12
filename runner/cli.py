"""The command line: a verb is known before anything heavy is imported."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

SUMMARIES = {
    "init": "Discover a source and write a job file.",
    "doctor": "Check connections, grants, versions and disk; say what to do.",
    "plan": "Show tables, chunks, estimates and what will be written.",
    "backfill": "Bring every selected table up to date.",
    "task": "Move exactly one table; reads the environment contract too.",
    "sense": "Run the sensors of a file: each event fires exactly once.",
    "sensors": "Show how the sensors of a file are doing; decide about deliveries that wait.",
    "verify": "Compare what is published with its record, the source or a proof; repair what differs.",
    "runs": "List the runs of this machine.",
    "show": "Show one run: its tables, chunks and errors.",
    "report": "Write the report of a run: one self-contained HTML page.",
    "orchestra generate": "Write the production pipeline of a job.",
    "orchestra check": "Fail where a committed pipeline is not what its job file generates.",
    "orchestra validate": "Check pipelines: each mistake with its file, line and column.",
    "orchestra trigger": "Start many pipelines, in many workspaces, over ranges too; follow them.",
    "orchestra metadata": "Load runs, tasks, operations and assets of a workspace into a destination.",
    "orchestra alerts": "Tell about failures of dbt: live from a task's log, or from run_results.json.",
}
_HELP = """\
Usage: runner {group}COMMAND [OPTIONS]

Move tables into a warehouse: bounded, retried, resumable in mid-table, proved complete.

Commands:
{commands}

--help after a command shows its options; most take --env NAME, --state-dir DIR, --json, --quiet and --debug.
Exit codes: 0 done · 1 something failed · 2 nothing could start · 3 not finished, try again.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code; the console script passes it to the shell."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        _write(sys.stdout, _help())
        return 0
    if arguments[0] == "--version":
        from runner import __version__

        _write(sys.stdout, f"runner {__version__}\n")
        return 0
    points = {point.name: point for point in entry_points(group="runner.commands")}
    # A command of a group has two words: orchestra trigger.
    for words in (2, 1):
        point = points.get(" ".join(arguments[:words]))
        if point is not None:
            return _run(point, arguments[words:])
    group = {name for name in points if name.startswith(f"{arguments[0]} ")}
    if not group:
        return _unknown(arguments[0], {name.partition(" ")[0] for name in points})
    if len(arguments) == 1 or arguments[1] in ("--help", "-h"):
        _write(sys.stdout, _help(f"{arguments[0]} "))
        return 0
    return _unknown(arguments[1], {name.partition(" ")[2] for name in group}, f"{arguments[0]} ")


def _help(group: str = "") -> str:
    """Return the help of everything, or of one group of commands."""
    points = {point.name for point in entry_points(group="runner.commands")}
    known = [*SUMMARIES, *sorted(points - set(SUMMARIES))]
    names = [name for name in known if name in points and name.startswith(group)]
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {SUMMARIES.get(name, '(a plug-in)')}" for name in names]
    return _HELP.format(group=group, commands="\n".join(lines))


def _unknown(word: str, known: set[str], group: str = "") -> int:
    from runner.document import nearest

    near = nearest(word, sorted(known))
    hint = f" Did you mean '{group}{near}'?" if near else ""
    _write(sys.stderr, f"error: there is no command '{group}{word}'.{hint}\nRun `runner {group}--help` for the list.\n")
    return 2


def _run(point: EntryPoint, arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        return _invoke(point.name, point.load(), arguments)
    except KeyboardInterrupt:
        _write(sys.stderr, "interrupted; run the same command again: it goes on where it stopped.\n")
        return 3
    except BrokenPipeError:
        return 0
    except Exception as error:
        if debug:
            import traceback

            from runner.secrets import redact

            _write(sys.stderr, redact("".join(traceback.format_exception(error))))
        return _tell(error)


def _invoke(name: str, command: Callable[..., int], arguments: list[str]) -> int:
    import typer

    interrupted = False

    @functools.wraps(command)
    def noticing(*values: Any, **options: Any) -> int:
        # typer turns a Ctrl-C into an exit code of its own, and ours is 3.
        nonlocal interrupted
        try:
            return command(*values, **options)
        except KeyboardInterrupt:
            interrupted = True
            raise

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, help=command.__doc__)(noticing)
    try:
        result: Any = app(arguments, prog_name=f"runner {name}", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        # A wrong option: typer brings its own copy of click, whose errors know how to show themselves.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        return 2
    if interrupted:
        raise KeyboardInterrupt
    return int(result or 0)


def _tell(error: Exception) -> int:
    from runner.errors import RunnerError
    from runner.secrets import redact

    if isinstance(error, RunnerError):
        _write(sys.stderr, redact(f"error: {error.message}\n" + (f"{error.advice}\n" if error.advice else "")))
        return error.exit_code
    _write(
        sys.stderr,
        redact(
            f"error: an unexpected {type(error).__name__}: {error}\n"
            "This is a defect of the runner: run it again with --debug and report what it prints.\n"
        ),
    )
    return 1


def _write(stream: Any, text: str) -> None:
    stream.write(text)
    stream.flush()


def script() -> None:
    """Run as the console script."""
    # Imports leave no garbage to look for; who runs a loop turns this on again.
    gc.disable()
    # As Ctrl-C, from the first moment on: who may be the first process of a container would not even hear it else.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = main()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it is closed, or nobody reads it any more
            stream.flush()
    # All that has an end was ended; to take the interpreter apart takes as long as moving a small table.
    os._exit(code)
