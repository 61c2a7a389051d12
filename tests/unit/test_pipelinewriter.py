"""What the writer writes, the loader reads equal; and people can read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.pipeline import Pipeline, load_pipeline
from orchestra.pipelinewriter import dump_pipeline
from orchestra.validation.pipelinecheck import check_pipeline

LOAD: dict[str, Any] = {
    "version": "v1",
    "name": "Load: orders #shop",
    "pipeline": {
        "load": {
            "tasks": {
                "pull": {
                    "integration": "PYTHON",
                    "integration_job": "PYTHON_EXECUTE_SCRIPT",
                    "parameters": {
                        "source": "GIT",
                        "command": "runner task orchestra/jobs/shop.yml --table '${{ matrix.table }}' "
                        + "--since '${{ inputs.since }}' " * 4,
                        "package_manager": "UV",
                        "python_version": "3.12",
                        "environment_variables": '{"OBJECT": "${{ matrix.table }}"}',
                        "build_command": "uv sync\nuv pip list\n",
                        "branch": None,
                    },
                    "depends_on": [],
                    "name": "${{ matrix.table }}",
                    "configuration": {"retries": 2, "retry_delay": 5},
                }
            },
            "depends_on": [],
            "name": "Load",
            "matrix": {"inputs": {"table": ["orders", "on", "0o17", "2026-01-01"]}, "max_parallel": 4},
        },
        "approve": {
            "integration": "ORCHESTRA",
            "integration_job": "APPROVAL",
            "parameters": {},
            "depends_on": ["load"],
            "name": "Approve",
        },
    },
    "schedule": [{"name": "Daily", "cron": "0 6 ? * * *", "timezone": "UTC"}],
    "webhook": {"enabled": False},
    "inputs": {"since": {"type": "string", "default": ""}},
}


def test_it_is_readable_and_stable():
    pipeline = Pipeline.model_validate(LOAD)
    text = dump_pipeline(pipeline, "Generated from jobs/shop.yml.\n\nDo not edit.")
    lines = text.splitlines()
    assert lines[:6] == ["# Generated from jobs/shop.yml.", "#", "# Do not edit.", "version: v1",
                         "name: 'Load: orders #shop'", "pipeline:"]  # fmt: skip
    for line in (
        "          python_version: '3.12'",
        "          build_command: |",
        "            uv sync",
        "          branch: null",
        "          - 'on'",
        "          - '0o17'",
        "          - '2026-01-01'",
        "    cron: 0 6 ? * * *",
        "    default: ''",
        "          retry_delay: 5",
    ):
        assert line in lines
    assert "null" not in text.replace("branch: null", "")
    assert text == dump_pipeline(load_pipeline(text, Path("load.yml")), "Generated from jobs/shop.yml.\n\nDo not edit.")
    assert check_pipeline(text, Path("load.yml")) == []


def test_what_stands_twice_has_no_alias():
    destinations = [{"integration": "EMAIL", "destination": "data@example.com"}]
    alert = {"name": "Failed", "statuses": ["FAILED"], "destinations": destinations}
    shared = {"rows": [1]}
    pipeline = Pipeline.model_validate(
        {**LOAD, "alerts": [alert, {**alert, "name": "Late"}], "meta": {"a": shared, "b": shared}}
    )
    assert "&" not in dump_pipeline(pipeline).replace("&&", "")


words = st.text(max_size=40) | st.sampled_from(
    ["on", "no", "~", "1e3", "1_000", "0x1F", "1:30", "=", "<<", "- a", "a: b", "a #b", "'", '"', "|", ">", "%a", "@a",
     "a\nb", "a\nb\n", "a\n\n", "\n", " a\nb", "a \nb", "\ta\nb", "${{ inputs.a }}", "3.10", "2026-01-01", "\x85", "\ufeffa",
     "a\u2028b", "!x", "&x", "*x", "? x", "---", "...", "\x07", "True", ".5", "-", "0b11", "é\nü", "a\r\nb"]
)  # fmt: skip
texts = words.filter(lambda text: not any("\ud800" <= letter <= "\udfff" for letter in text))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
tasks = st.fixed_dictionaries(
    {
        "integration": st.sampled_from(["PYTHON", "SOME_SYSTEM"]),
        "integration_job": st.just("SOME_JOB"),
        "parameters": st.dictionaries(texts, values, max_size=3),
        "depends_on": st.lists(texts, max_size=2),
        "name": texts,
    },
    optional={
        "condition": texts | st.none(),
        "tags": st.lists(texts, max_size=2) | st.none(),
        "connection": texts,
        "paused": st.booleans(),
        "configuration": st.fixed_dictionaries(
            {}, optional={"retries": st.integers(0, 9), "timeout": st.integers(1, 9**9)}
        ),
    },
)
groups = st.fixed_dictionaries(
    {"tasks": st.dictionaries(texts, tasks, max_size=2), "depends_on": st.lists(texts, max_size=2)},
    optional={
        "name": texts,
        "matrix": st.fixed_dictionaries({"inputs": st.dictionaries(texts, st.lists(values, max_size=3), max_size=2)}),
    },
)
pipelines = st.fixed_dictionaries(
    {"name": texts, "pipeline": st.dictionaries(texts, groups | tasks, max_size=2)},
    optional={
        "meta": st.dictionaries(texts, values, max_size=2),
        "inputs": st.dictionaries(
            texts, st.fixed_dictionaries({"type": st.just("string"), "default": values}), max_size=2
        ),
        "schedule": st.lists(
            st.fixed_dictionaries({"cron": texts}, optional={"exclude": st.lists(texts, max_size=2)}), max_size=2
        ),
    },
)


@settings(max_examples=50, deadline=None)
@given(pipelines)
def test_what_is_written_is_read_equal(data):
    pipeline = Pipeline.model_validate(data)
    text = dump_pipeline(pipeline)
    assert load_pipeline(text, Path("any.yml")) == pipeline
    # Others read it so too.
    assert Pipeline.model_validate(yaml.safe_load(text)) == pipeline
