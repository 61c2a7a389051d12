"""The parameters of the jobs that we know in full.

From the Orchestra docs, "Integrations", the docs of orchestra-skills, and the pipelines of orchestra-blueprints; the
OpenAPI document takes any. What is not here is let through, with a doubt at most. How POSTGRES_RUN_QUERY and
POSTGRES_RUN_TEST call their query is written nowhere: it is taken to be `statement`, as in Snowflake.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from orchestra.pipelinevalues import Flag

Source = Literal["GIT", "INLINE"]
PackageManager = Literal["PIP", "UV", "POETRY"]
PYTHON_VERSIONS = ("3.11", "3.12")


class Parameters(BaseModel):
    """Parameters of one job."""

    model_config = ConfigDict(extra="forbid")


class PythonParameters(Parameters):
    """PYTHON_EXECUTE_SCRIPT.

    Attributes:
        environment_variables: One JSON object as a text.
        project_dir: Where the command runs; ``shallow_clone_dirs`` is what is fetched.
        branch: Of the code; that of the pipeline is another.
    """

    package_manager: str | None = None
    python_version: str | None = None
    build_command: str | None = None
    environment_variables: str | None = None
    set_outputs: Flag | None = None
    source: str | None = None
    command: str | None = None
    code: str | None = None
    branch: str | None = None
    project_dir: str | None = None
    shallow_clone_dirs: str | None = None


class DbtParameters(Parameters):
    """DBT_CORE_EXECUTE.

    Attributes:
        commands: Commands of dbt with ``;`` between them.
    """

    commands: str
    package_manager: str | None = None
    python_version: str | None = None
    use_state_orchestration: Flag | None = None
    branch: str | None = None
    production_run_identifier: str | None = None
    project_dir: str | None = None
    shallow_clone_dirs: str | None = None
    warehouse_identifier: str | None = None
    environment_variables: str | None = None
    set_outputs: Flag | None = None
    build_command: str | None = None


class HttpParameters(Parameters):
    """HTTP_REQUEST; ``custom_headers`` is one JSON object as a text."""

    path: str | None = None
    method: str | None = None
    body: Any = None
    custom_headers: str | None = None
    set_outputs: Flag | None = None


class StatementParameters(Parameters):
    """A statement in Snowflake, Postgres and their like."""

    statement: str
    role: str | None = None
    database: str | None = None
    schema_: str | None = None
    warehouse: str | None = None
    warehouse_id: str | None = None
    set_outputs: Flag | None = None


class StatementTestParameters(StatementParameters):
    """A test: the number of rows that the statement returns is compared."""

    error_threshold_expression: str | None = None
    warn_threshold_expression: str | None = None


class QueryParameters(Parameters):
    """A query in BigQuery or MotherDuck."""

    query: str
    location: str | None = None
    enable_drive_scope: Flag | None = None
    set_outputs: Flag | None = None
    database: str | None = None


class QueryTestParameters(QueryParameters):
    """A test: the number of rows that the query returns is compared."""

    error_threshold_expression: str | None = None
    warn_threshold_expression: str | None = None


class TriggerParameters(Parameters):
    """TRIGGER_PIPELINE; it waits for the run to end."""

    pipeline_id: str
    run_inputs: dict[str, Any] | None = None
    branch: str | None = None
    environment: str | None = None
    set_outputs: Flag | None = None


class ApprovalParameters(Parameters):
    """APPROVAL: somebody has to say yes."""

    message_integration: str | None = None
    message_connection_id: str | None = None
    message_destination: str | None = None
    message: str | None = None
    approvers: list[str] | str | None = None


class AgentParameters(Parameters):
    """RUN_AGENT."""

    agent_id: str
    prompt: str | None = None
    set_outputs: Flag | None = None


# Keys of YAML that cannot be names in Python.
NAMES = {"schema": "schema_"}

PARAMETERS: dict[str, type[Parameters]] = {
    "PYTHON_EXECUTE_SCRIPT": PythonParameters,
    "DBT_CORE_EXECUTE": DbtParameters,
    "HTTP_REQUEST": HttpParameters,
    "TRIGGER_PIPELINE": TriggerParameters,
    "APPROVAL": ApprovalParameters,
    "RUN_AGENT": AgentParameters,
    "SNOWFLAKE_RUN_QUERY": StatementParameters,
    "SNOWFLAKE_RUN_TEST": StatementTestParameters,
    "POSTGRES_RUN_QUERY": StatementParameters,
    "POSTGRES_RUN_TEST": StatementTestParameters,
    "DATABRICKS_EXECUTE_STATEMENT": StatementParameters,
    "DATABRICKS_RUN_TEST": StatementTestParameters,
    "GCP_BQ_RUN_QUERY_JOB": QueryParameters,
    "GCP_BQ_RUN_TEST": QueryTestParameters,
    "MOTHERDUCK_EXECUTE_QUERY": QueryParameters,
}
