"""References to secrets, .env files, and what never reaches a log."""

import pytest

from runner import secrets
from runner.errors import SecretMissing, UsageError
from runner.secrets import environment, read_dotenv, redact, remember, resolve


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch):
    monkeypatch.setattr(secrets, "_seen", set())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("x${A}y${B}z", "xoneytwoz"),
        ("${A:-d}", "one"),
        ("${NONE:-d}", "d"),
        ("${NONE:-}", ""),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${NONE:-postgres://h:5432/db}", "postgres://h:5432/db"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$A", "$A"),
        ("5$", "5$"),
    ],
)
def test_references(text, expected):
    assert resolve(text, {"A": "one", "B": "two", "EMPTY": ""}) == expected


def test_references_deep_inside():
    value = {"a": ["${A}", {"b": "${A}"}], "n": 7, "t": True, "x": None}
    assert resolve(value, {"A": "1"}) == {"a": ["1", {"b": "1"}], "n": 7, "t": True, "x": None}


def test_what_a_secret_says_is_not_a_reference():
    assert resolve("${A}", {"A": "${B}", "B": "no"}) == "${B}"


def test_a_file(tmp_path):
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    assert resolve(f"${{file:{file}}}", {}) == "from a file"


@pytest.mark.parametrize("reference", ["${NONE}", "${file:/no/such/file}", "${secret:none}"])
def test_references_that_lead_nowhere(reference):
    with pytest.raises(SecretMissing) as missing:
        resolve(reference, {})
    assert reference in missing.value.message
    assert missing.value.exit_code == 2


def test_a_secret_manager_is_asked(monkeypatch):
    monkeypatch.setattr(secrets, "load_plugins", lambda group: {"vault": {"db": "s3cret"}.get})
    assert resolve("${secret:db}", {}) == "s3cret"
    assert redact("it was s3cret") == "it was ***"
    with pytest.raises(SecretMissing, match="no secret manager knows it"):
        resolve("${secret:other}", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://user:hunter2@host/db failed", "postgres://user:***@host/db failed"),
        ("host=h password=hunter2 user=u", "host=h password=*** user=u"),
        ("password = 'two words' user=u", "password = *** user=u"),
        ("Token: abcdef", "Token: ***"),
        ("?api_key=abc&x=1", "?api_key=***&x=1"),
        ("nothing here", "nothing here"),
        ("postgres://host/db", "postgres://host/db"),
        ("a key = 1 in the table", "a key = 1 in the table"),
    ],
)
def test_redact(text, expected):
    assert redact(text) == expected


def test_resolved_secrets_are_redacted_wherever_they_turn_up(tmp_path):
    file = tmp_path / "f"
    file.write_text("filed-away")
    resolve(["${DB_PASSWORD}", "${DSN}", "${KV}", f"${{file:{file}}}", "${DB_HOST}"], {
        "DB_PASSWORD": "correct horse",
        "DSN": "postgres://u:from-a-dsn@h/db",
        "KV": "host=h password=from-a-pair",
        "DB_HOST": "plain-host",
    })  # fmt: skip
    text = redact("correct horse / from-a-dsn / from-a-pair / filed-away / plain-host")
    assert text == "*** / *** / *** / *** / plain-host"


def test_a_short_secret_does_not_blank_every_text():
    resolve("${PASSWORD}", {"PASSWORD": "a"})
    assert redact("a cat") == "a cat"


def test_a_secret_inside_a_longer_one_does_not_uncover_it():
    for number in range(20):  # whatever the order of a set is
        remember(f"password=inner{number:02}")
        remember(f"password=inner{number:02}tail{number:02}")
    texts = [redact(f"so inner{number:02}tail{number:02} it is") for number in range(20)]
    assert set(texts) == {"so *** it is"}


def test_dotenv(tmp_path):
    (tmp_path / ".env").write_text(
        "# a comment\n\nA=1\nexport B = two words \nC='quoted # text'\nD=\"double\"\nE=\nF=a=b\nnonsense\n#G=7\n"
    )
    assert read_dotenv(tmp_path) == {
        "A": "1",
        "B": "two words",
        "C": "quoted # text",
        "D": "double",
        "E": "",
        "F": "a=b",
    }


def test_a_dotenv_of_another_system(tmp_path):
    (tmp_path / ".env").write_bytes("\ufeffA=1\r\nB=2\r\n".encode())
    assert read_dotenv(tmp_path) == {"A": "1", "B": "2"}
    (tmp_path / ".env").write_bytes("A=1\n".encode("utf-16"))
    with pytest.raises(UsageError, match=r"\.env: it cannot be read: it is not UTF-8"):
        read_dotenv(tmp_path)


def test_dotenv_of_the_nearest_folder_up_to_the_project(tmp_path):
    inner = tmp_path / "project" / "jobs"
    inner.mkdir(parents=True)
    (tmp_path / ".env").write_text("A=outside\n")
    (tmp_path / "project" / "pyproject.toml").touch()
    assert read_dotenv(inner) == {}
    (tmp_path / "project" / ".env").write_text("A=project\n")
    assert read_dotenv(inner) == {"A": "project"}
    (inner / ".env").write_text("A=near\n")
    assert read_dotenv(inner) == {"A": "near"}


def test_the_process_wins_over_dotenv(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("RUNNER_TEST_A=file\nRUNNER_TEST_B=file\n")
    monkeypatch.setenv("RUNNER_TEST_A", "process")
    monkeypatch.delenv("RUNNER_TEST_B", raising=False)
    found = environment(tmp_path)
    assert (found["RUNNER_TEST_A"], found["RUNNER_TEST_B"]) == ("process", "file")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("POST host/oauth2/token: no connection", "POST host/oauth2/token: no connection"),
        ("access_token: abcdef, token=x1", "access_token: ***, token=***"),
        ("client_secret=abc&b=1", "client_secret=***&b=1"),
        ("{'password': 'x y'}", "{'password': ***}"),
    ],
)
def test_what_is_a_secret_and_what_is_an_address(text, shown):
    assert redact(text) == shown
