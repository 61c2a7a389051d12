"""Mistakes in a file are named with their line and the nearest known key."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from runner.document import Document, nearest, validate
from runner.errors import JobFileError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rows: int = Field(1, ge=1)
    schema_: str | None = Field(None, alias="schema")


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    limits: Inner = Inner()
    tables: dict[str, Inner | None] = {}
    many: list[Inner] = []
    source: str | Inner = "x"


def document(text: str) -> Document:
    return Document(Path("job.yml"), text)


def refuse(text: str) -> JobFileError:
    with pytest.raises(JobFileError) as refused:
        validated = document(text)
        validate(Outer, validated.data, validated)
    return refused.value


def test_every_key_and_item_has_its_line():
    found = document("a: 1\nb:\n  c:\n  - x\n  - d: 2\n")
    assert found.data == {"a": 1, "b": {"c": ["x", {"d": 2}]}}
    assert found.lines == {
        (): 1,
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "c", 0): 4,
        ("b", "c", 1): 5,
        ("b", "c", 1, "d"): 5,
    }
    assert found.line(("b", "c", 1, "none", "deeper")) == 5
    assert found.line(("none",)) == 1


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file_is_an_empty_mapping(text):
    assert document(text).data == {}


def test_plain_values_keep_their_types_and_dates_stay_text():
    found = document("i: 1\nf: 1.5\nt: true\nn: null\ns: '1'\nd: 2024-01-31\nk: {on: 1, 7: 2}\n")
    assert found.data == {
        "i": 1,
        "f": 1.5,
        "t": True,
        "n": None,
        "s": "1",
        "d": "2024-01-31",
        "k": {"on": 1, "7": 2},
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\na: 2\n", 2), ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4), ("a: [{x: 1,\n x: 2}]\n", 2)],
)
def test_a_key_that_stands_twice(text, line):
    error = refuse(text)
    assert "stands twice" in error.message
    assert error.message.startswith(f"job.yml:{line}: ")
    assert error.context["line"] == line


@pytest.mark.parametrize(("text", "line"), [("a: 1\nb: [1,\nc: 2\n", 4), ("a: b: c\n", 1), ("a: 1\n\tb: 2\n", 2)])
def test_text_that_is_not_yaml(text, line):
    error = refuse(text)
    assert error.message.startswith(f"job.yml:{line}: ")
    assert error.exit_code == 2


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", "7\n"])
def test_a_file_that_is_no_mapping(text):
    assert refuse(text).message == "job.yml:1: the file must be a mapping of keys."


def test_a_tag_that_is_not_plain_yaml_is_refused_with_its_line():
    error = refuse("name: x\nlimits: !!python/name:os.system ''\n")
    assert error.message.startswith("job.yml:2: ")


def test_no_file(tmp_path):
    with pytest.raises(JobFileError, match=r"none\.yml: no such file"):
        Document(tmp_path / "none.yml")


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "bad.yml"
    path.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(JobFileError, match="cannot be read"):
        Document(path)


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(JobFileError, match="cannot be read"):
        Document(tmp_path)


def test_validation_returns_the_model():
    found = document("name: x\nlimits: {rows: 7, schema: s}\ntables: {a: , b: {rows: 2}}\n")
    model = validate(Outer, found.data, found)
    assert (model.limits.rows, model.limits.schema_, model.tables["a"]) == (7, "s", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nlimit: 1\n", "job.yml:2: limit: unknown key. Did you mean 'limits'?"),
        ("name: x\nzzz: 1\n", "job.yml:2: zzz: unknown key."),
        ("name: x\nlimits:\n  row: 1\n", "job.yml:3: limits.row: unknown key. Did you mean 'rows'?"),
        ("name: x\nlimits:\n  schem: 1\n", "job.yml:3: limits.schem: unknown key. Did you mean 'schema'?"),
        ("name: x\ntables:\n  a:\n    rowz: 1\n", "job.yml:4: tables.a.rowz: unknown key. Did you mean 'rows'?"),
        ("name: x\nmany:\n- rows: 1\n- rowz: 2\n", "job.yml:4: many.1.rowz: unknown key. Did you mean 'rows'?"),
        ("limits: {rows: 1}\n", "job.yml:1: name: this key is needed."),
        ("name: x\nlimits: {\n  rows: 0}\n", "job.yml:3: limits.rows: input should be greater than or equal to 1."),
    ],
)
def test_mistakes_are_named_where_they_stand(text, message):
    assert refuse(text).message == message


def test_each_mistake_has_a_line_of_its_own():
    error = refuse("name: x\nlimit: 1\nlimits:\n  row: 1\n  rows: 0\n")
    lines = error.message.split("\n")
    assert len(lines) == 3
    assert {line.split(":")[1] for line in lines} == {"2", "4", "5"}
    assert error.context["line"] == int(lines[0].split(":")[1])


def test_no_more_than_eight_mistakes_are_told():
    error = refuse("name: x\n" + "".join(f"q{i}: 1\n" for i in range(20)))
    assert len(error.message.split("\n")) == 8


def test_a_place_inside_the_document():
    found = document("name: x\nlimits:\n  row: 1\n")
    with pytest.raises(JobFileError, match=r"job\.yml:3: limits\.row: unknown key\. Did you mean 'rows'"):
        validate(Inner, found.data["limits"], found, ("limits",))


def test_refuse_names_file_line_and_key():
    error = document("a:\n  b: 1\n").refuse(("a", "b"), "is odd.")
    assert error.message == "job.yml:2: a.b: is odd."
    assert (error.context["line"], error.context["key"]) == (2, "a.b")


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [("limit", ["limits", "tables"], "limits"), ("zzz", ["limits"], None), ("a", [], None)],
)
def test_nearest(word, known, expected):
    assert nearest(word, known) == expected
