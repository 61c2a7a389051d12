"""The trigger file: the blueprint's own format, mistakes with their lines, keys before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestra.launching.triggerfile import Trigger, load_triggers, named_pipelines
from runner.errors import JobFileError, SecretMissing, UsageError
from runner.secrets import redact

EXAMPLES = Path(__file__).parents[2] / "orchestra" / "triggers"
KEYS = {"PROD_API_TOKEN": "key-prod-4711", "STAGING_API_TOKEN": "key-staging-4712"}
SEED: dict[str, Any] = {
    "workspaces": {"production": "PROD_API_TOKEN", "staging": "STAGING_API_TOKEN"},
    "pipelines": [
        {"workspace": "production", "pipeline": "5a2e7c0e-37d5-4f9e-8f39-0d8a3f1b1a01", "branch": "main"},
        {"workspace": "production", "pipeline": "daily-ingest", "environment": "prod"},
        {"workspace": "staging", "pipeline": "other", "branch": "feature/my-branch", "commit": "9f1c2ab"},
        {
            "workspace": "staging",
            "pipeline": "other",
            "run_inputs": {"region": "eu-west-1", "rows": 1e5, "note": "ü\t"},
        },
    ],
}


def load(tmp_path: Path, text: str, name: str = "t.yml", **more: Any) -> Trigger:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return load_triggers(path, more.pop("environ", KEYS), **more)


@pytest.mark.parametrize("indent", [None, 4, "\t"])
@pytest.mark.parametrize("ascii_", [True, False])
def test_the_blueprints_json_is_read_as_it_is(tmp_path: Path, indent: Any, ascii_: bool) -> None:
    SEED["pipelines"][3]["run_inputs"]["smile"] = "😀"
    trigger = load(tmp_path, json.dumps(SEED, indent=indent, ensure_ascii=ascii_), "c.json")
    bodies = [entry.start({}).body() for entry in trigger.entries]
    assert bodies == [
        {"branch": "main"},
        {"environment": "prod"},
        {"branch": "feature/my-branch", "commit": "9f1c2ab"},
        {"runInputs": {"region": "eu-west-1", "rows": 100000.0, "note": "ü\t", "smile": "😀"}},
    ]
    assert {label: one.api_key for label, one in trigger.workspaces.items()} == {
        "production": KEYS["PROD_API_TOKEN"],
        "staging": KEYS["STAGING_API_TOKEN"],
    }
    assert redact("key-prod-4711") == "***"


def test_yaml_may_say_more(tmp_path: Path) -> None:
    trigger = load(
        tmp_path,
        """
workspaces:
  production: {variable: PROD_API_TOKEN, base_url: "https://stage.getorchestra.io", account: acc-1}
pipelines:
  - {workspace: production, pipeline: load, task_ids: [pull], continue_downstream: true, run_inputs: {day: 2024-01-01}}
  - {workspace: production, pipeline: other, retry_from_failed: true, run_inputs: null, branch: null}
""",
    )
    assert [entry.start({}).body() for entry in trigger.entries] == [
        {"runInputs": {"day": "2024-01-01"}, "taskIds": ["pull"], "continueDownstreamRun": True},
        {"retryFromFailed": True},
    ]
    workspace = trigger.workspaces["production"]
    assert workspace.base_url == "https://stage.getorchestra.io/api/engine/public"
    assert workspace.account == "acc-1"


def test_a_key_of_another_workspace_names_no_account_of_ours(tmp_path: Path) -> None:
    environ = {**KEYS, "ORCHESTRA_ACCOUNT_ID": "acc-of-this-process"}
    trigger = load(tmp_path, json.dumps(SEED), "c.json", environ=environ)
    assert all(one.account is None for one in trigger.workspaces.values())
    named = named_pipelines(["load"], {**environ, "ORCHESTRA_API_KEY": "key-own-1"})
    assert named.workspaces["default"].account == "acc-of-this-process"


def test_every_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    text = """workspaces:
  production: sk-live-0815 secret
pipelines:
  - workspace: production
    pipline: load
  - workspace: production
    pipeline: a/b
    continue_downstream: true
  - workspace: production
    pipeline: c
    run_inputs: [1]
"""
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, text)
    message = caught.value.message
    assert "sk-live-0815" not in message
    for expected in (
        "t.yml:2: workspaces.production",
        "the name of an environment variable is meant",
        "t.yml:5: pipelines.0.pipline: unknown key. Did you mean 'pipeline'?",
        "t.yml:7: pipelines.1.pipeline: an alias or an id is meant",
        "t.yml:11: pipelines.2.run_inputs",
    ):
        assert expected in message


def test_labels_are_checked_together(tmp_path: Path) -> None:
    text = SEED | {"pipelines": [{"workspace": one, "pipeline": "p"} for one in ("prodution", "staging", "x")]}
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, json.dumps(text, indent=2), "c.json")
    assert "Did you mean 'production'?" in caught.value.message
    assert "c.json:8: pipelines.0.workspace: 'prodution'" in caught.value.message
    assert "c.json:16: pipelines.2.workspace: 'x' is not among workspaces. There are: production, staging." in str(
        caught.value
    )


def test_keys_are_looked_for_together_and_only_those_that_are_needed(tmp_path: Path) -> None:
    with pytest.raises(SecretMissing) as caught:
        load(tmp_path, json.dumps(SEED, indent=2), "c.json", environ={"STAGING_API_TOKEN": ""})
    assert "c.json:3: workspaces.production: the variable PROD_API_TOKEN is not set." in caught.value.message
    assert "c.json:4: workspaces.staging: the variable STAGING_API_TOKEN is not set." in caught.value.message
    with pytest.raises(SecretMissing, match="no key has") as caught:
        load(tmp_path, json.dumps(SEED), "c.json", environ={**KEYS, "PROD_API_TOKEN": "two words-4711"})
    assert "words-4711" not in str(caught.value)
    assert load(tmp_path, json.dumps(SEED), "c.json", environ={"STAGING_API_TOKEN": "k-1"}, only=("staging/*",)).entries


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"workspaces": {"a": "B"},\n "pipelines": [}', r"c.json:2: not JSON"),
        ("[]", "must be a mapping"),
        ('{"workspaces": {}, "pipelines": []}', "workspaces"),
        ('{"workspaces": {"a": "B"}, "workspaces": {"a": "B"}}', "stands twice"),
        ("", "not JSON"),
    ],
)
def test_what_is_no_trigger_file(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(JobFileError, match=says):
        load(tmp_path, text, "c.json")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(JobFileError, match="no such file"):
        load_triggers(Path("nowhere.json"), KEYS)


def test_only(tmp_path: Path) -> None:
    text = json.dumps(SEED)
    assert [one.pipeline for one in load(tmp_path, text, "c.json", only=("daily-*", "staging/oth*")).entries] == [
        "daily-ingest",
        "other",
        "other",
    ]
    with pytest.raises(UsageError, match=r"--only nothing\* fits no pipeline"):
        load(tmp_path, text, "c.json", only=("nothing*",))


def test_pipelines_by_name() -> None:
    trigger = named_pipelines(["a", "b"], {"ORCHESTRA_API_KEY": "key-own-1"})
    assert [one.pipeline for one in trigger.entries] == ["a", "b"]
    with pytest.raises(SecretMissing, match="ORCHESTRA_API_KEY is not set"):
        named_pipelines(["a"], {})
    with pytest.raises(UsageError, match="an alias or an id"):
        named_pipelines(["a?b"], {"ORCHESTRA_API_KEY": "key-own-1"})


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*")), ids=lambda path: path.name)
def test_the_examples_are_right(path: Path) -> None:

    environ = dict.fromkeys(("EXAMPLE_PRODUCTION_API_KEY", "EXAMPLE_STAGING_API_KEY"), "key-1")
    assert load_triggers(path, environ).entries
