"""``runner orchestra validate --online`` against the double of Orchestra's API, with and without a key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestra.testing import OrchestraDouble
from tests.unit.test_pipelinecheck import document


@pytest.fixture
def double() -> Iterator[OrchestraDouble]:
    with OrchestraDouble() as running:
        yield running


@pytest.mark.parametrize("key", ["", "key-of-the-first-workspace"])
def test_orchestra_is_asked_and_its_answers_are_placed(cli, project, double, key):
    project.environ |= {"ORCHESTRA_BASE_URL": double.base_url, "ORCHESTRA_API_KEY": key}
    (project.folder / "good.yml").write_text(document())
    (project.folder / "wrong.yml").write_text(document().replace("name: Load orders\n", ""))
    assert cli("orchestra", "validate", "--online", "good.yml").code == 0
    answer = cli("orchestra", "validate", "--online", "good.yml", "wrong.yml")
    assert answer.code == 1
    # We say the same of the same place: it is told once.
    assert answer.out == "wrong.yml:1:1: the pipeline needs the key 'name'.\n"


def test_an_orchestra_that_cannot_be_asked_is_an_error(cli, project):
    project.environ |= {"ORCHESTRA_BASE_URL": "http://127.0.0.1:9", "ORCHESTRA_API_KEY": ""}
    (project.folder / "good.yml").write_text(document())
    answer = cli("orchestra", "validate", "--online", "good.yml")
    assert answer.code == 2
    assert "no answer" in answer.err
