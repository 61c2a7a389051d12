"""Each mistake of a pipeline is told once, where it stands, with what to do about it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from orchestra.validation.pipelinecheck import check_pipeline
from orchestra.validation.problems import Problem

BASE = """\
version: v1
name: Load orders
pipeline:
  load:
    tasks:
      pull:
        integration: PYTHON
        integration_job: PYTHON_EXECUTE_SCRIPT
        name: Pull
        depends_on: []
        parameters:
          command: python -m pull
          #parameters
        #task
      count:
        integration: SNOWFLAKE
        integration_job: SNOWFLAKE_RUN_TEST
        name: Count
        depends_on: [pull]
        parameters:
          statement: select 1
          #test
    depends_on: []
    #group
  report:
    tasks:
      tell:
        integration: HTTP
        integration_job: HTTP_REQUEST
        name: Tell
        depends_on: []
        parameters: {path: /tell}
        #tell
    depends_on: [load]
    #report
#top
"""
# The place of the mistake.
MARK = "▶"


def document(**parts: str) -> str:
    text = BASE
    for part in ("parameters", "task", "test", "group", "tell", "report", "top"):
        line = next(line for line in text.splitlines(keepends=True) if line.strip() == f"#{part}")
        indent = line[: len(line) - len(line.lstrip())]
        text = text.replace(line, textwrap.indent(textwrap.dedent(parts.pop(part, "")).lstrip("\n"), indent) + "\n")
    assert not parts
    return text


def check(text: str) -> list[Problem]:
    return check_pipeline(text, Path("load.yml"))


def expected(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text without its marks, and where they were."""
    places = []
    while MARK in text:
        before = text[: text.index(MARK)]
        places.append((before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1))
        text = text.replace(MARK, "", 1)
    return text, places


def test_a_good_pipeline_has_no_problems():
    assert check(document()) == []


ERRORS = [
    # Keys.
    ({"top": "▶scheduel: []"}, "unknown key 'scheduel'. Did you mean 'schedule'?"),
    ({"group": "▶tags: [a]"}, "unknown key 'tags'. A group takes no tags: they belong to its tasks."),
    ({"group": "▶schedule: []"}, "unknown key 'schedule'. It belongs at the top of the file."),
    ({"task": "▶dependson: []"}, "unknown key 'dependson'. Did you mean 'depends_on'?"),
    ({"task": "configuration: {▶retry: 3}"}, "unknown key 'retry'. Did you mean 'retries'?"),
    ({"top": "schedule: [{cron: 0 8 ? * * *, ▶zone: UTC}]"}, "unknown key 'zone'. Did you mean 'timezone'?"),
    ({"top": "version: v1"}, None),
    # Kinds of values.
    ({"task": "tags: ▶a"}, "pipeline.load.tasks.pull.tags should be a list, not a text."),
    ({"task": "condition: ▶true"}, "pipeline.load.tasks.pull.condition should be a text, not a flag. Quote it."),
    ({"task": "paused: ▶maybe"}, "pipeline.load.tasks.pull.paused should be true or false, not 'maybe'."),
    ({"task": "connection: ▶12345"}, "should be a text, not a number. Quote it."),
    ({"task": "configuration: {retries: ▶often}"}, "retries should be a whole number, not 'often'."),
    ({"task": "configuration: {retries: ▶-1}"}, "retries should be at least 0, not -1."),
    (
        {"task": "configuration: {retry_delay: ▶300}"},
        "retry_delay should be 0 to 120 minutes, not 300. It counts minutes, not seconds; 300 seconds are 5.",
    ),
    ({"task": "configuration: {timeout: ▶1h}"}, "timeout should be a whole number of seconds, not '1h'."),
    ({"top": "configuration: {concurrency: {max_active: ▶1.5}}"}, "should be a whole number, not 1.5."),
    ({"group": "matrix: {inputs: {table: [a]}, max_parallel: ▶0}"}, "should be at least 1, not 0."),
    # Order.
    ({"report": "▶x: 1"}, "unknown key 'x'. Known here: tasks, depends_on, condition, name, matrix, paused, meta"),
    # Expressions.
    ({"task": "condition: ${{ ▶input.x == 1 }}"}, "there is no name 'input'. Did you mean 'inputs'?"),
    ({"task": "condition: ${{ inputs.a and ▶inputs.b }}", "top": "inputs: {a: {type: boolean}}"},
     "there is no input 'b'. Known: a."),
    ({"task": "condition: ${{ ▶inputs.b }}"}, "there is no input 'b'. The pipeline declares no inputs."),
    ({"task": "condition: ${{ ▶since == '' }}", "top": "inputs: {since: {type: string}}"},
     "there is no name 'since'. Did you mean 'inputs.since'?"),
    ({"task": "condition: ▶${{ True"}, "the expression is never closed: '}}' is missing."),
    ({"task": "condition: ▶${{ }}"}, "the expression is empty."),
    ({"task": "condition: ${{ 1 == ▶}}"}, "the expression cannot be read from here on."),
    ({"task": "condition: ${{ ▶[1, 2 }}"}, "this '[' is never closed."),
    ({"task": "condition: ${{ 'a' == ▶'b }}"}, "this quote is never closed."),
    ({"task": "condition: ${{ (1▶] }}"}, "this ']' closes nothing."),
    ({"task": 'condition: "${{ ▶lambda: 1 }}"'}, "Orchestra's expressions know no functions of one's own."),
    ({"task": "condition: ${{ len(▶[x for x in inputs]) }}"}, "Orchestra's expressions know no comprehensions."),
    ({"task": "condition: ${{ ▶lenn('a') }}"}, "there is no function 'lenn'. Did you mean 'len'?"),
    ({"task": "condition: ${{ ▶exec('a') }}"}, "there is no function 'exec'. Known: format_date, add_days, add_months, len"),
    ({"task": "condition: ${{ 1 < ▶add_days(env.X) }}"}, "add_days takes 2 values, not 1."),
    ({"task": "condition: ${{ ▶format_date(env.X) }}"}, "format_date takes 2 or 3 values, not 1."),
    ({"task": "condition: ${{ ▶len() }}"}, "len takes 1 value, not 0."),
    ({"task": "condition: ${{ ▶env == 'x' }}"}, "env is no value by itself. Say which: env.NAME."),
    ({"report": "condition: ${{ ▶task_groups['laod'].all().status == 'FAILED' }}"},
     "there is no group 'laod'. Did you mean 'load'?"),
    ({"report": "condition: ${{ ▶task_groups['pull'].all().status == 'FAILED' }}"},
     "there is no group 'pull'. That is a task of the group 'load'."),
    ({"report": "condition: ${{ ▶task_groups['load'].each().status == 'FAILED' }}"},
     "a group has no 'each'. Known: all(), any()."),
    ({"report": "condition: ${{ ▶task_groups['load'].all('x').status == 'FAILED' }}"}, "all() takes no values."),
    ({"report": "condition: ${{ task_groups['load'].all().status == ▶'SUCCESS' }}"},
     "there is no status 'SUCCESS'. Did you mean 'SUCCEEDED'?"),
    ({"report": "condition: ${{ task_groups['load'].all().status in ['FAILED', ▶'DONE'] }}"},
     "there is no status 'DONE'. Known: CREATED"),
    ({"tell": "condition: ${{ ▶ORCHESTRA.PIPELINE_RUN_TASKS['pul'].STATUS == 'FAILED' }}"},
     "there is no task 'pul'. Did you mean 'pull'?"),
    ({"tell": "condition: ${{ ▶tasks['load'].status == 'FAILED' }}"},
     "there is no task 'load'. That is a group: task_groups takes those."),
    ({"parameters": 'build_command: "echo ${{ ▶matrix.table }}"'}, "matrix is known in a group with a matrix only."),
    ({"parameters": "build_command: ${{ ▶MATRIX.tabel }}", "group": "matrix: {inputs: {table: [a, b]}}"},
     "the matrix of this group has no input 'tabel'. Did you mean 'table'?"),
    ({"tell": "condition: ${{ ▶tasks['pull_c'].STATUS == 'FAILED' }}", "group": "matrix: {inputs: {t: [a, b]}}"},
     "there is no task 'pull_c'. Did you mean 'pull'?"),
    ({"parameters": "build_command: |\n  echo one\n  echo ${{ ▶foo }}"}, "there is no name 'foo'."),
    ({"parameters": "build_command: echo one\n  two ▶${{ 'a'\n  + foo }}"}, "there is no name 'foo'."),
    # Matrices.
    ({"group": "matrix: {▶inputs: {a: [1], b: [2]}}"}, "exactly one input; here are 2. Make one list of all combina"),
    ({"group": "matrix: {▶inputs: {}}"}, "a matrix has exactly one input; here are none."),
    ({"group": "matrix: {inputs: {a: ▶orders}}"}, "the input of a matrix is a list, or one ${{ }} that becomes a li"),
    ({"group": "matrix: {inputs: {a: [x, y, ▶x]}}"}, "two children would have the id TASK_x. Give each value an id"),
    ({"group": 'matrix: {inputs: {a: [1, ▶"1"]}}'}, "two children would have the id TASK_1."),
    ({"group": "matrix: {inputs: {a: [false, ▶{id: false, name: b}]}}"}, "two children would have the id TASK_false."),
    # Parameters.
    ({"parameters": "environment_variables: ▶{A: 1}"},
     "environment_variables is one text that holds JSON, not a mapping. Write '{\"A\": \"…\"}'."),
    ({"parameters": "environment_variables: ▶'{A: 1}'"}, "environment_variables holds no JSON (line 1: Expecting prop"),
    ({"parameters": "environment_variables: ▶'[1]'"}, "environment_variables should hold one JSON object, not a list."),
    ({"parameters": "source: ▶INLINE"}, "source INLINE needs the parameter 'code'."),
    ({"test": "error_threshold_expression: ▶== 0"}, "'== 0' is no threshold. Write '= 0'."),
    ({"test": "warn_threshold_expression: ▶'> -1'"}, "'> -1' is no threshold. One of =, >, <, >=, <=, != and a whole"),
    # Times.
    ({"top": "schedule: [{cron: ▶0 8 * * *}]"}, "the cron has 5 fields, not six. In six fields it is '0 8 ? * * *'."),
    ({"top": "schedule: [{cron: 0 8 * * ▶MON *}]"}, "exactly one is '?'; here neither is. For example '0 8 ? * MON *"),
    ({"top": "schedule: [{cron: 0 ▶25 ? * * *}]"}, "cron: hour: 25 is not between 0 and 23."),
    ({"top": "schedule: [{cron: 0 8 ? * * *, timezone: ▶Europe/Lodon}]"}, "Did you mean 'Europe/London'?"),
    ({"top": "schedule: [{cron: 0 8 ? * * *, exclude: [2026-12-25, ▶25.12.2026]}]"}, "'25.12.2026' is no day."),
    # Inputs.
    ({"top": "inputs: {▶my-table: {type: string}}"}, "'my-table' is no name of an input"),
    ({"top": "inputs: {rows: {type: ▶int}}"}, "inputs.rows.type: 'int' is not known."),
    ({"top": "inputs: {rows: {type: number, default: ▶many}}"}, "the default is a text, and the type is number."),
    ({"top": "inputs: {tables: {type: list, default: ▶{a: 1}}}"}, "the default is a mapping, and the type is list."),
    # Sensors and alerts.
    ({"top": "sensors: {s: {name: S, cron: 0 8 ? * * *, timezone: UTC, timeout_mins: 9, frequency_secs: ▶30, checks: {c: "
      "{integration: SFTP, sensor_type: SFTP_FILE, parameters: {}}}}}"}, "frequency_secs should be 60 to 600 seconds, not 30."),
    ({"top": "sensors: {s: {name: S, cron: 0/30 * ? * * *, timezone: UTC, timeout_mins: ▶60, checks: {c: {integration: SFTP, "
      "sensor_type: SFTP_FILE, parameters: {}}}}}"}, "a window of 60 minutes is still open when the next one begins, after 30."),
    ({"top": "sensors: {s: {name: ▶" + "s" * 101 + ", cron: 0 8 ? * * *, timezone: UTC, timeout_mins: 9, checks: {c: "
      "{integration: SFTP, sensor_type: SFTP_FILE, parameters: {}}}}}"}, "sensors.s.name has 101 letters; 100 are allowed."),
    ({"top": "sensors: {s: {name: S, cron: 0 8 ? * * *, timezone: UTC, timeout_mins: 9, checks: ▶{}}}"}, "a sensor needs a check."),
    ({"task": "alerts: [{name: A, statuses: [▶FAILURE], destinations: []}]"}, None),
    ({"top": "alerts:\n- {name: A, statuses: [FAILED], destinations: [{integration: EMAIL, destination: a@b.c}]}\n"
      "- {name: ▶A, statuses: [FAILED], destinations: [{integration: EMAIL, destination: a@b.c}]}"},
     "two alerts here are called 'A'."),
    ({"top": f"alerts:\n- name: A\n  statuses: [FAILED]\n  custom_message: ▶{'m' * 201}\n  destinations: "
      "[{integration: PAGER_DUTY}]"}, "custom_message has 201 letters; 200 are allowed."),
    ({"top": "trigger_events: [{type: pipeline, pipeline_id: '*', statuses: [▶Failed]}]"}, "Did you mean 'FAILED'?"),
    # What the document of Orchestra forbids or asks for.
    ({"top": "trigger_events: [{type: pipeline, pipeline_id: ▶orders}]"}, "'orders' is no id of a pipeline."),
    ({"top": "trigger_events: [{type: ▶task, pipeline_id: '*'}]"}, "trigger_events.0.type: 'task' is not known."),
    ({"top": "trigger_events: [{type: pipeline, pipeline_id: '*', ▶environment: x}]"}, "unknown key 'environment'."),
    ({"top": "webhook: {enabled: true, ▶secret: x}"}, "unknown key 'secret'. Known here: enabled, run_inputs"),
    ({"group": "▶configuration: {retries: 1}"}, "unknown key 'configuration'. It belongs at the top of the file."),
    ({"group": "matrix: {inputs: {a: [1]}, ▶max_paralel: 1}"}, "unknown key 'max_paralel'. Did you mean 'max_parallel'"),
    ({"task": "tags: [a]\nmeta: ▶x"}, "pipeline.load.tasks.pull.meta should be a mapping, not a text."),
    ({"top": "alerts: [{name: A, statuses: ▶[], destinations: [{integration: PAGER_DUTY}]}]"}, "without statuses nobody"),
    ({"top": "alerts: [{name: A, statuses: [▶RUNNING_TIMEOUT], destinations: [{integration: PAGER_DUTY}]}]"},
     "alerts.0.statuses.0: 'RUNNING_TIMEOUT' is not known."),
    ({"top": "alerts: [{name: A, statuses: [FAILED], destinations: [{integration: DATADOG, parameters: "
      "{priority: ▶6}}]}]"}, "alerts.0.destinations.0.parameters.priority should be 1 to 5, not 6."),
    ({"top": "inputs: {a: {type: string, ▶descripton: x}}"}, "unknown key 'descripton'. Known here: type, default, opt"),
    ({"top": "sensors: {▶s: {name: S, cron: 0 8 ? * * *, timeout_mins: 9, checks: {c: {integration: SFTP, "
      "sensor_type: SFTP_FILE, parameters: {}}}}}"}, "sensors.s needs the key 'timezone'."),
    ({"top": "sensors: {s: {name: S, cron: 0 8 ? * * *, timezone: UTC, timeout_mins: ▶7201, checks: {c: {integration: "
      "SFTP, sensor_type: SFTP_FILE, parameters: {}}}}}"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "said"), ERRORS)
def test_a_mistake_is_told_where_it_stands(parts, said):
    text, places = expected(document(**parts))
    errors = [problem for problem in check(text) if problem.severity == "error"]
    if said is None:
        # More is told of these elsewhere.
        assert errors
        return
    assert [(problem.line, problem.column) for problem in errors] == places, [str(problem) for problem in errors]
    assert said in f"{errors[0].message} {errors[0].hint}"
    assert str(errors[0]).startswith(f"load.yml:{errors[0].line}:{errors[0].column}: ")


WARNINGS = [
    ({"parameters": "▶comand: x"}, "PYTHON_EXECUTE_SCRIPT is not known to take the parameter 'comand'. Did you mean"),
    ({"parameters": "python_version: ▶3.12"}, "python_version is a number here, and should be a text: 3.12. Write"),
    ({"parameters": "python_version: ▶'2.7'"}, "Python '2.7' is not known here. Known: 3.11, 3.12."),
    ({"parameters": "package_manager: ▶pip"}, "package_manager 'pip' is not known. Did you mean 'PIP'?"),
    ({"parameters": "set_outputs: ▶often"}, "set_outputs should be true or false, not 'often'."),
    ({"task": "configuration: {timeout: ▶5}"}, "a timeout of 5 seconds is short. It counts seconds, not minutes; 5 mi"),
    ({"task": "connection: ▶my_python"}, "'my_python' is no id of a connection: those end with _ and five digits."),
    ({"test": "error_threshold_expression: '> 0'\nwarn_threshold_expression: ▶'> 0'"}, "this warning is never given"),
    ({"test": "error_threshold_expression: '> 0'\nwarn_threshold_expression: ▶'>= 5'"}, "this warning is never given"),
    ({"tell": "condition: ${{ ▶tasks['pull'].OUTPUTS['rows'] }}"}, "the task 'pull' sets no outputs. Without `set_out"),
    ({"task": "condition: ${{ ▶tasks['tell'].STATUS == 'FAILED' }}"}, "nothing here waits for the task 'tell'."),
    ({"task": "condition: ▶1 == 1"}, "this condition holds no ${{ }}: it is a text, and a text is always true."),
    ({"task": "condition: ${{ ▶outputs.files }}"}, "outputs is known to sensors and trigger events only."),
    ({"task": "condition: ${{ ▶ORCHESTRA.CURRENT_TIMES }}"}, "is not known. Did you mean 'CURRENT_TIME'?"),
    ({"parameters": "build_command: echo ▶${{ x"}, "the expression is never closed: '}}' is missing. It is handed on"),
    ({"group": "matrix: {inputs: {a: ▶[]}}"}, "this list is empty: the group does nothing."),
    ({"group": 'matrix: {inputs: {a: ["2", ▶{name: b}, c]}}'}, "two children would have the id TASK_2. It depends on"),
    ({"report": "depends_on: [load]"}, None),
    ({"top": "schedule: [▶{cron: 0 8 ? * * *}]\ninputs: {day: {type: string}}"}, "this schedule cannot start the pip"),
    ({"top": "schedule: [{cron: 0 8 ? * * *, run_inputs: {▶dya: 1}}]\ninputs: {day: {type: string, default: x}}"},
     "the pipeline has no input 'dya'. Did you mean 'day'?"),
    ({"top": "inputs: {rows: {type: number, default: ▶'5'}}"}, "the default is a text, and the type is number. Leave"),
    ({"top": "inputs: {name: {type: string, default: ▶5}}"}, "the default is a number, and the type is string. Quote"),
    ({"top": "alerts: [{name: A, statuses: [FAILED], destinations: [▶{integration: SLACK}]}]"},
     "SLACK needs the key 'destination'."),
    ({"top": "alerts: [{name: A, statuses: [FAILED], destinations: [{integration: ▶SLAK}]}]"}, "Did you mean 'SLACK'?"),
    ({"top": "sensors: {s: {name: S, cron: 0 8 ? * * *, timezone: UTC, timeout_mins: 9, checks: {c: {integration: SFTP, "
      "sensor_type: ▶SFTP_FILES, parameters: {}}}}}"},
     "the sensor type 'SFTP_FILES' is not known. Did you mean 'SFTP_FILE'?"),
    ({"top": "anomalies: [{type: ▶pipeline_duration, percentage_above_baseline: 30}]"}, "Did you mean 'pipeline_durati"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "said"), WARNINGS)
def test_a_doubt_is_a_warning(parts, said):
    text, places = expected(document(**parts))
    problems = check(text)
    if said is None:
        assert [problem.message for problem in problems] == ["the key 'depends_on' stands twice; it is in line 34 too."]
        return
    assert [(problem.line, problem.column, problem.severity) for problem in problems] == [(*places[0], "warning")], [
        str(problem) for problem in problems
    ]
    assert said in f"{problems[0].message} {problems[0].hint}"
    assert ": warning: " in str(problems[0])


ACCEPTED = [
    {"top": "webhook: {enabled: false, operation_metadata: null, run_inputs: null}\nconfiguration: null\ninputs: null"},
    {"task": "condition: null\ntags: null\nconnection: null\nconfiguration: null\noperation_metadata: null"},
    {"top": "configuration:\n  concurrency:\n    max_active: 1 if ${{ ENV.NAME }} == 'Production' else 20"},
    {"parameters": 'environment_variables: \'{"A": ${{ ORCHESTRA.TASK_RUN_ID }}, "B": "${{ ENV.B }}"}\''},
    {"parameters": "environment_variables: ${{ ENV.VARIABLES }}"},
    {"parameters": 'environment_variables: "{\\n \\"A\\": \\"${{ ENV.A\\\n            \\ }}\\"}"'},
    {"parameters": "build_command: ${{ MATRIX.t['id'] }} ${{ matrix.t.name }}", "group": "matrix: {inputs: {t: [{id: a}]}}"},
    {"group": "matrix: {inputs: {t: '${{ inputs.tables }}'}, sequential: true, continue_on_error: true, max_parallel: 4}",
     "top": "inputs: {tables: {type: list, default: [a, b]}}"},
    {"report": "condition: ${{ task_groups['load'].all().status in ['SUCCEEDED', 'SKIPPED'] and 1==0 }}"},
    {"report": "condition: ${{ task_groups['load'].any().status == 'COMPLETED' or not TRUE }}"},
    {"tell": "condition: ${{ tasks['pull_a'].status != 'FAILED' }}", "group": "matrix: {inputs: {t: [a, b]}}"},
    {"tell": "condition: ${{ tasks['pull_1'].status != 'FAILED' }}", "group": "matrix: {inputs: {t: [{x: 1}, {x: 2}]}}"},
    {"tell": "condition: ${{ tasks['pull_z'].status != 'FAILED' }}", "group": "matrix: {inputs: {t: '${{ ENV.T }}'}}"},
    {"task": "condition: \"${{ format_date(add_days(orchestra.current_time, -1), '%d', 'UTC') == '01' }}\""},
    {"task": "condition: ${{ (ENV.N | int) > 5 and len(ENV.LIST) * 2 >= 1 }}"},
    {"task": "connection: ${{ ENV.PYTHON }}\ntreat_failure_as_warning: true\npaused: false"},
    {"parameters": "source: GIT\nset_outputs: ${{ inputs.x }}", "top": "inputs: {x: {type: boolean, default: false}}"},
    {"test": "error_threshold_expression: '>= 10'\nwarn_threshold_expression: '> 0'\nschema: PUBLIC\nrole: LOADER"},
    {"test": "error_threshold_expression: <0"},
    {"top": "schedule:\n- {name: Daily, cron: 0 8 ? * Mon-FRI *, timezone: Europe/London, exclude: [2026-12-25]}\n"
     "- {name: Daily, cron: 0 8 * * ? *, timezone: UTC, environment: null, branch: null, run_inputs: null}"},
    {"top": "sensors: {s: {name: S, cron: 0 6 * * ? *, timezone: UTC, timeout_mins: 60, frequency_secs: 60, environments: "
     "[Production], exclude: [], run_inputs: {t: x}, condition: '${{ len(outputs.files) > 0 }}', checks: {c: {integration: "
     "AWS_S3, sensor_type: AWS_S3_FILE, connection: aws_12345, parameters: {bucket_name: b}, map_outputs: "
     "{f: '${{ outputs.files[0] }}'}}}, alerts: []}}\ninputs: {t: {type: string}, f: {type: string}}"},
    {"top": "trigger_events: [{type: pipeline, pipeline_id: '*', run_inputs: {r: '${{ outputs.pipeline_run }}'}}]\n"
     "inputs: {r: {type: string}}"},
    {"top": "inputs: {d: {type: string, default: \"${{ format_date(ORCHESTRA.CURRENT_TIME, '%Y') }}\", optional: null}}"},
    {"top": "alerts: [{name: A, statuses: [ANY_COMPLETED, SKIPPED], destinations: [{integration: DATADOG, "
     "connection_id: dd_12345, parameters: {priority: 5}}], custom_message: 'See ${{ ORCHESTRA.PIPELINE_RUN_ID }}'}]"},
    {"task": "anomalies: [{type: task_duration_above_baseline, percentage_above_baseline: 30, destinations: []}]"},
    {"task": "operation_metadata: {m: {s3_bucket_name: null, integration: SNOWFLAKE, connection: sf_12345}}"},
    {"top": "meta: {notes: 'what ${{ nobody }} reads'}", "group": "meta: {team: data}", "task": "meta: {team: data}"},
    {"top": "webhook: {}\ntrigger_events: [{type: pipeline, pipeline_id: 0b3f4c1e-2d5a-4c7b-9e8f-1a2b3c4d5e6f, "
     "statuses: [CREATED, SKIPPED]}]"},
    {"top": "sensors: {s: {name: S, cron: 0 6 * * ? *, timezone: UTC, timeout_mins: 1440, environments: Production, "
     "checks: {c: {integration: CLICKHOUSE, sensor_type: CLICKHOUSE_QUERY, parameters: {query: select 1}}}}}"},
    {"top": "alerts: [{name: A, statuses: [FAILED], destinations: [{integration: WEBHOOK, connection_id: w_12345, "
     "parameters: {body: {a: b}}}]}]"},
    {"task": "condition: \"${{ add_months(ORCHESTRA.CURRENT_TIME, -1) != '' }}\""},
]  # fmt: skip


@pytest.mark.parametrize("parts", ACCEPTED)
def test_what_orchestra_takes_is_taken(parts):
    assert [str(problem) for problem in check(document(**parts))] == []


OTHERS = """\
version: v1
name: Others
pipeline:
  approve:
    integration: ORCHESTRA
    integration_job: APPROVAL
    parameters: {}
    depends_on: []
    name: Approve
  sync:
    tasks:
      crm:
        integration: SOME_NEW_SYSTEM
        integration_job: SOME_NEW_JOB
        parameters: {anything: {at: [all, 1, null]}, schema: x, card: {$schema: 'http://x', body: [{text: y}]}}
        depends_on: []
        name: CRM
        tags: []
    depends_on: [approve]
    name: ''
"""


KNOWN = OTHERS.replace("SOME_NEW_SYSTEM", "KAFKA").replace("SOME_NEW_JOB", "KAFKA_CHECK_TOPIC")


def test_unknown_integrations_are_doubted_only():
    assert [(problem.line, problem.severity, problem.message) for problem in check(OTHERS)] == [
        (13, "warning", "the integration 'SOME_NEW_SYSTEM' is not known."),
        (14, "warning", "the integration_job 'SOME_NEW_JOB' is not known."),
    ]
    other = KNOWN.replace("KAFKA_CHECK_TOPIC", "HEX_RUN_PROJECT")
    assert [problem.message for problem in check(other)] == ["HEX_RUN_PROJECT is a job of HEX, not of KAFKA."]


def test_tasks_stand_without_a_group_name_and_order():
    assert check(KNOWN) == []
    assert check(KNOWN.replace("    depends_on: []\n    name: Approve\n", "")) == []
    assert [problem.message for problem in check(KNOWN.replace("name: Approve", f"name: {'a' * 101}"))] == [
        "pipeline.approve.name has 101 letters; 100 are allowed."
    ]


def test_task_groups_takes_no_task_without_a_group():
    text = KNOWN + "    condition: ${{ task_groups['approve'].all().status == 'SUCCEEDED' }}\n"
    assert [str(problem) for problem in check(text)] == ["load.yml:21:20: there is no group 'approve'. That is a task."]


def test_a_name_that_is_almost_known_is_doubted():
    text = KNOWN.replace("KAFKA\n", "KAFKAA\n")
    assert [problem.hint for problem in check(text)] == ["Did you mean 'KAFKA'?"]
    text = OTHERS.replace("SOME_NEW_SYSTEM", "SNOWFLAKE").replace("SOME_NEW_JOB", "SNOWFLAKE_RUN_TESTS")
    assert [problem.hint for problem in check(text)] == ["Did you mean 'SNOWFLAKE_RUN_TEST'?"]
    text = KNOWN.replace("KAFKA\n", "kafka\n")
    assert [(problem.severity, problem.hint) for problem in check(text)] == [("error", "Did you mean 'KAFKA'?")]


def test_ids_that_are_called_as_keys_are():
    text, places = expected(
        KNOWN.replace("  sync:", "  matrix:").replace("      crm:", "      webhook:\n        ▶foo: 1")
        .replace("anything: ", "condition: x, anything: ")
    )  # fmt: skip
    problems = check(text)
    assert [(problem.line, problem.column, problem.severity) for problem in problems] == [(*places[0], "error")]


def order(**waits: str) -> str:
    """A pipeline of groups that wait for each other."""
    groups = "".join(
        f"  {name}:\n    tasks:\n      t_{name}: {{integration: HTTP, integration_job: HTTP_REQUEST, name: T, "
        f"parameters: {{}}, depends_on: []}}\n    depends_on: [{others}]\n"
        for name, others in waits.items()
    )
    return f"version: v1\nname: Order\npipeline:\n{groups}"


@pytest.mark.parametrize(
    ("waits", "said"),
    [
        ({"a": "a"}, ["these wait for each other: a→a."]),
        ({"a": "b", "b": "a"}, ["these wait for each other: a→b→a."]),
        ({"c": "", "b": "a, c", "a": "d", "d": "b"}, ["these wait for each other: b→a→d→b."]),
        ({"a": "b", "b": "a", "c": "d", "d": "c"}, ["these wait for each other: a→b→a.", "these wait for each other: c→d→c."]),
        ({"load": "", "b": "laod"}, ["there is no group 'laod' to wait for."]),
        ({"a": "", "b": "t_a"}, ["there is no group 't_a' to wait for."]),
        ({"a": "", "b": "a, a"}, ["'a' stands twice."]),
    ],
)  # fmt: skip
def test_who_waits_for_whom(waits, said):
    assert [problem.message for problem in check(order(**waits))] == said


def test_a_long_chain_is_no_circle():
    names = [f"g{number}" for number in range(1200)]
    text = order(**dict(zip(names, ["", *names], strict=False)))
    assert check(text.replace("depends_on: [g1]", "depends_on: [g1, g1]"))[0].message == "'g1' stands twice."


@pytest.mark.parametrize(
    ("place", "severity", "said"),
    [
        ("[▶report]", "warning", "That is a group: let the group 'load' wait for it."),
        ("[▶tell]", "warning", "That is a task of another group: let 'load' wait for 'report'."),
        ("[▶pul]", "error", "Did you mean 'pull'?"),
    ],
)
def test_a_task_waits_for_tasks_of_its_group(place, severity, said):
    text, places = expected(document().replace("[pull]", place))
    (problem,) = check(text)
    assert (problem.line, problem.column, problem.severity, problem.hint) == (*places[0], severity, said)


def test_a_group_waits_for_groups():
    (problem,) = check(document().replace("[load]", "[pull]"))
    assert problem.hint == "That is a task of the group 'load'; a group waits for groups."


def test_ids_are_unique_among_groups_and_tasks():
    text, places = expected(document().replace("      tell:", "      ▶load:"))
    (problem,) = check(text)
    assert (problem.line, problem.column) == places[0]
    assert problem.message == "the id 'load' is taken: a group in line 4 has it."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "load.yml:1:1: this file is empty. A pipeline begins with `version: v1`."),
        ("# only a comment\n", "load.yml:1:1: this file is empty. A pipeline begins with `version: v1`."),
        ("[1]", "load.yml:1:1: this is no pipeline: a pipeline is a mapping of keys. A pipeline begins"),
        ("a: 1", "load.yml:1:1: this is no pipeline: it has neither 'version' nor 'pipeline'."),
        ("version: 1\nname: x\npipeline: {}", "load.yml:1:10: version: 1 is not known. Did you mean 'v1'?"),
        ("version: v1\nname: x", "load.yml:1:1: the pipeline needs the key 'pipeline'."),
        ("version: v1\n\tname: x", "load.yml:2:1: "),
        ("version: v1\npipeline: [\n", "load.yml:3:1: did not find expected node content while parsing a flow"),
        ("version: v1\nname: a: b", "load.yml:2:8: mapping values are not allowed in this context."),
        ("version: v1\nname: x\n---\nversion: v1\n", "load.yml:3:1: a second document begins here."),
    ],
)
def test_what_is_no_pipeline(text, said):
    assert str(check(text)[0]).startswith(said), [str(problem) for problem in check(text)]


def test_tabs_are_named():
    (problem,) = check("version: v1\nname: x\npipeline:\n\tload: 1\n")
    assert (problem.line, problem.hint) == (4, "Indent with spaces; YAML takes no tabs there.")


def test_everything_is_told_at_once_in_the_order_of_the_file():
    text = document(top="a: 1\nb: 2", task="c: 3", report="condition: ${{ x }}").replace(
        "name: Load", "name: 5\nname: L"
    )
    problems = check(text)
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)
    assert len(problems) == 6


def test_aliases_point_where_they_stand():
    text = "x: &p {integration: HTTP, foo: 1}\n" + order(a="").replace("{integration: HTTP,", "{<<: *p,")
    messages = [str(problem) for problem in check(text)]
    assert messages[0].startswith("load.yml:1:1: unknown key 'x'.")
    assert messages[1].startswith("load.yml:7:7: unknown key 'foo'.")
