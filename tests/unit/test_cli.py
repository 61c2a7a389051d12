"""The command line: verbs, help and exit codes."""

import re
from importlib.metadata import EntryPoint, entry_points

import pytest

from runner import cli
from runner.errors import Busy, JobFileError


class Point:
    def __init__(self, name: str, command) -> None:
        self.name = name
        self._command = command

    def load(self):
        return self._command


def install(monkeypatch, **commands) -> None:
    points = [Point(name, command) for name, command in commands.items()]
    monkeypatch.setattr(cli, "entry_points", lambda group: points)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_installed_command(arguments, capsys):
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    for summary in cli.SUMMARIES.values():
        assert summary in text
    for point in entry_points(group="runner.commands"):
        assert f"\n  {point.name} " in text


def test_a_group_of_commands_has_help_of_its_own(capsys):
    for arguments in (["orchestra"], ["orchestra", "--help"]):
        assert cli.main(arguments) == 0
        text = capsys.readouterr().out
        assert "runner orchestra COMMAND" in text
        assert "\n  orchestra trigger " in text
        assert "backfill" not in text


def test_an_unknown_command_of_a_group(capsys):
    assert cli.main(["orchestra", "triger"]) == 2
    error = capsys.readouterr().err
    assert "there is no command 'orchestra triger'. Did you mean 'orchestra trigger'?" in error
    assert "runner orchestra --help" in error


def test_summaries_are_of_the_commands_of_this_package():
    own = {
        point.name
        for point in entry_points(group="runner.commands")
        if isinstance(point, EntryPoint) and point.value.startswith(("runner.", "sensors.", "orchestra."))
    }
    assert set(cli.SUMMARIES) == own


@pytest.mark.parametrize("name", sorted(cli.SUMMARIES))
def test_every_command_can_be_loaded_and_explains_itself(name, capsys):
    assert cli.main([*name.split(), "--help"]) == 0
    assert f"runner {name}" in capsys.readouterr().out


def test_an_unknown_command(capsys):
    assert cli.main(["backfil"]) == 2
    error = capsys.readouterr().err
    assert "there is no command 'backfil'. Did you mean 'backfill'?" in error
    assert "runner --help" in error


def test_an_unknown_command_like_no_other(capsys):
    assert cli.main(["zzz"]) == 2
    assert "Did you mean" not in capsys.readouterr().err


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("runner ")


def test_a_wrong_option_is_a_usage_error(capsys):
    assert cli.main(["backfill", "--nope"]) == 2
    assert "--nope" in capsys.readouterr().err


def test_a_plug_in_is_listed_too(monkeypatch, capsys):
    install(monkeypatch, fly=lambda: 0)
    cli.main([])
    assert re.search(r"  fly +\(a plug-in\)", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (JobFileError("shop.yml:3: odd."), 2, "error: shop.yml:3: odd.\nCorrect it"),
        (Busy("It runs."), 3, "error: It runs.\nWait for it"),
        (KeyboardInterrupt(), 3, "interrupted; run the same command again"),
        (BrokenPipeError(), 0, ""),
        (ZeroDivisionError("one"), 1, "an unexpected ZeroDivisionError: one"),
        (ValueError("at postgres://u:hunter2@h/db"), 1, "postgres://u:***@h/db"),
    ],
)
def test_errors_become_words_and_exit_codes(monkeypatch, capsys, error, code, words):
    def command() -> int:
        raise error

    install(monkeypatch, go=command)
    assert cli.main(["go"]) == code
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_exit_code_is_the_commands(monkeypatch, code):
    install(monkeypatch, go=lambda: code)
    assert cli.main(["go"]) == code


@pytest.mark.parametrize(
    ("error", "code"), [(JobFileError("odd."), 2), (ValueError("at postgres://u:hunter2@h/db"), 1)]
)
def test_debug_shows_where(monkeypatch, capsys, error, code):
    def command(debug: bool = False) -> int:
        raise error

    install(monkeypatch, go=command)
    assert cli.main(["go", "--debug"]) == code
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "in command" in told
    assert "hunter2" not in told
