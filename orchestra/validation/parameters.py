"""Integrations, their jobs, and the parameters of the jobs that we know in full.

From the Orchestra docs, "Integrations", the docs of orchestra-skills, and the pipelines of orchestra-blueprints. The
lists are not complete and need not be: what is not in them is let through, with a doubt at most.
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
    "MOTHERDUCK_RUN_TEST": QueryTestParameters,
}

JOBS: dict[str, tuple[str, ...]] = {
    "PYTHON": ("PYTHON_EXECUTE_SCRIPT",),
    "DBT_CORE": ("DBT_CORE_EXECUTE",),
    "HTTP": ("HTTP_REQUEST",),
    "ORCHESTRA": (
        "TRIGGER_PIPELINE", "APPROVAL", "RUN_AGENT", "DATA_RECONCILIATION_CURSOR_FIELD",
        "DATA_RECONCILIATION_MANUAL_QUERY",
    ),
    "SNOWFLAKE": ("SNOWFLAKE_RUN_QUERY", "SNOWFLAKE_RUN_TEST"),
    "POSTGRES": ("POSTGRES_RUN_QUERY", "POSTGRES_RUN_TEST"),
    "DATABRICKS": ("DATABRICKS_EXECUTE_STATEMENT", "DATABRICKS_RUN_TEST", "DATABRICKS_ONE_TIME_RUN"),
    "GCP_BIG_QUERY": ("GCP_BQ_RUN_QUERY_JOB", "GCP_BQ_RUN_TEST", "GCP_BQ_RUN_SCHEDULED_QUERY_JOB"),
    "MOTHERDUCK": ("MOTHERDUCK_EXECUTE_QUERY", "MOTHERDUCK_RUN_TEST"),
    "AWS_S3": ("AWS_S3_GET_FILE",),
    "SFTP": ("SFTP_GET_FILE", "SFTP_PUT_FILE"),
    "AWS_LAMBDA": ("AWS_LAMBDA_EXECUTE_ASYNC_FUNCTION",),
    "AWS_ECS": ("AWS_ECS_RUN_TASK",),
    "GCP_CLOUD_RUN": ("GCP_CLOUD_RUN_EXECUTE_JOB",),
    "BAUPLAN": ("BAUPLAN_EXECUTE_PIPELINE",),
    "SLACK": ("SEND_SLACK_MESSAGE", "SLACK_SEND_MESSAGE"),
    "MICROSOFT_TEAMS": ("SEND_MICROSOFT_TEAMS_MESSAGE",),
    "FIVETRAN": ("FIVETRAN_SYNC_ALL",),
    "OPEN_AI": ("OPEN_AI_CHAT",),
    "LIGHTDASH": ("LIGHTDASH_REFRESH_DASHBOARD",),
    "POWER_BI": ("POWER_BI_REFRESH_DATASET", "POWER_BI_DATASET_REFRESH"),
    "ESTUARY": ("ESTUARY_CHECK_FLOW",),
    "TABLEAU_CLOUD": ("TABLEAU_REFRESH_EXTRACT",),
    "SIGMA": (
        "SIGMA_DATASET_MATERIALIZATION", "SIGMA_DATAMODEL_MATERIALIZATION", "SIGMA_WORKBOOK_MATERIALIZATION",
    ),
    "HIGHTOUCH": ("HIGHTOUCH_SYNC",),
    "AIRBYTE_CLOUD": ("AIRBYTE_CLOUD_JOB",),
    "ALTERYX_SERVER": ("ALTERYX_SERVER_TRIGGER_WORKFLOW",),
    "AWS_EC2": ("AWS_EC2_SSM_RUN_SCRIPT",),
    "AWS_REDSHIFT": ("REDSHIFT_EXECUTE_STATEMENT",),
    "GCP_DATAFLOW": ("GCP_DATAFLOW_RUN_PIPELINE",),
    "GCP_LOOKER": ("GCP_LOOKER_RUN_SCHEDULED_PLAN",),
    "AWS_GLUE": ("AWS_GLUE_RUN_JOB",),
    "AZURE_VM": ("AZURE_VM_RUN_COMMAND",),
    "AZURE_CONTAINER_APPS": ("ACA_RUN_JOB",),
    "BOOMI": ("BOOMI_EXECUTE_PROCESS",),
    "DATAPROC": ("DATAPROC_RUN_JOB",),
    "DBT": ("DBT_RUNJOB",),
    "MATILLION": ("MATILLION_EXECUTE_PIPELINE",),
}  # fmt: skip
INTEGRATIONS = frozenset(JOBS) | {"AIRBYTE_SERVER", "AZURE_DATA_LAKE_STORAGE", "FABRIC_SYNAPSE", "SQL_SERVER"}
SENSOR_TYPES = (
    "AWS_S3_FILE", "ADLS_FILE", "SFTP_FILE", "SNOWFLAKE_QUERY", "SQL_SERVER_QUERY", "DATABRICKS_QUERY",
    "FABRIC_SYNAPSE_QUERY", "POSTGRES_QUERY", "GCP_BIG_QUERY_QUERY", "ORCHESTRA_PIPELINE_STATUS",
    "ORCHESTRA_WEBHOOK_EVENT",
)  # fmt: skip
SENSOR_INTEGRATIONS = {
    "AWS_S3_FILE": "AWS_S3",
    "ADLS_FILE": "AZURE_DATA_LAKE_STORAGE",
    "SFTP_FILE": "SFTP",
    **{kind: kind.removesuffix("_QUERY") for kind in SENSOR_TYPES if kind.endswith("_QUERY")},
    "ORCHESTRA_PIPELINE_STATUS": "ORCHESTRA",
    "ORCHESTRA_WEBHOOK_EVENT": "ORCHESTRA",
}
DESTINATIONS = ("SLACK", "EMAIL", "PAGER_DUTY", "MICROSOFT_TEAMS", "WEBHOOK", "DATADOG")
