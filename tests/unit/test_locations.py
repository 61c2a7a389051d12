"""YAML with places: nothing makes the reader run away, and one mistake does not hide another."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.validation.locations import DEEPEST, Located, Place
from orchestra.validation.pipelinecheck import check_pipeline
from tests.unit.test_pipelinecheck import document


def said(text: str) -> list[tuple[int, int, str]]:
    return [(place.line, place.column, message) for place, message, _ in Located(text).mistakes]


def test_places_of_keys_values_and_items():
    located = Located("a: 1\nb:\n  - x\n  - {c:  d}\n")
    assert located.data == {"a": 1, "b": ["x", {"c": "d"}]}
    assert located.key(("a",)) == Place(1, 1)
    assert located.value(("a",)) == Place(1, 4)
    assert located.value(("b", 0)) == Place(3, 5)
    assert located.key(("b", 1, "c")) == Place(4, 6)
    assert located.value(("b", 1, "c")) == Place(4, 10)
    assert located.value(("b", 1, "nothing", "here")) == Place(4, 5)


def test_every_key_that_stands_twice_is_told_and_the_first_counts():
    text = "a: 1\nb: {c: 1, c: 2}\na: {d: 1, d: 2}\n"
    assert said(text) == [
        (2, 11, "the key 'c' stands twice; it is in line 2 too."),
        (3, 1, "the key 'a' stands twice; it is in line 1 too."),
        (3, 11, "the key 'd' stands twice; it is in line 3 too."),
    ]
    assert Located(text).data == {"a": 1, "b": {"c": 1}}


def test_dates_stay_texts_and_the_rest_is_as_pyyaml_reads_it():
    assert Located("a: 2026-12-25\nb: 3.12\nc: yes\nd: '1'\ne:\nf: 0o7\ng: 010").data == {
        "a": "2026-12-25", "b": 3.12, "c": True, "d": "1", "e": None, "f": "0o7", "g": 8,
    }  # fmt: skip


def test_anchors_and_merged_keys():
    text = "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: [*x, *x]\nw: {<<: [*x, {c: 4}]}\n"
    located = Located(text)
    assert located.data == yaml.safe_load(text)
    assert located.value(("z", 1, "a")) == Place(3, 9)


def test_what_would_run_away_is_refused():
    assert said("[" * (DEEPEST + 5)) == [(1, DEEPEST + 2, f"this is nested more than {DEEPEST} deep.")]
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    assert said(bomb)[0][2] == "with its aliases the file holds more than 200,000 values."
    assert said("a: &a [1, *a]") == [(1, 11, "*a holds itself.")]
    assert said("a: *b\nc: 1") == [(1, 4, "there is no anchor &b before this.")]


def test_what_json_has_not():
    assert said("a: .nan\nb: -.inf\n") == [(1, 4, "JSON has no such number."), (2, 4, "JSON has no such number.")]
    assert said("a: !thing x\n") == [(1, 4, "this is no !thing.")]
    assert said("? [a]\n: 1\nb: 2\n")[0] == (1, 3, "a key must be a text.")


def test_places_inside_texts():
    text = 'a: x ${{ one }} ${{ two }}\nb: |\n  first\n  ${{ three }}\nc: "\\t${{ fo\\x75r }}"\n'
    located = Located(text)
    assert located.inside(("a",), "${{", 1, "${{ ") == Place(1, 21)
    assert located.inside(("b",), "${{", 0, "${{ ") == Place(4, 7)
    # Written in another way: the mark is as near as it gets.
    assert located.inside(("c",), "${{", 0, "${{ four") == Place(5, 7)
    assert located.inside(("c",), "${{", 7, "") == Place(5, 4)


DOCUMENT = document(
    top="inputs: {a: {type: string}}\nschedule: [{cron: 0 8 ? * * *, timezone: UTC}]",
    group="matrix: {inputs: {t: [a, b]}}",
    task="condition: ${{ inputs.a == 'x' and task_groups['report'].all().status in ['FAILED'] }}",
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nothing_that_is_written_breaks_the_check(data):
    text = DOCUMENT
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, min(len(text), begin + 12)))
        new = data.draw(
            st.sampled_from(["", "[]", "{}", "null", "- 1", "${{", "}}", "'", "\t", "é", "&a", "*a", ": ", "\n"])
        )
        text = text[:begin] + new + text[end:]
    for problem in check_pipeline(text, "x"):  # type: ignore[arg-type]
        assert 1 <= problem.line <= text.count("\n") + 2
        assert problem.column >= 1
