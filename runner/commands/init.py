"""``runner init``: discover a source and write a job file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.commands import options as opt

if TYPE_CHECKING:
    from runner.source import Table


def command(
    source_uri: Annotated[str, typer.Argument(metavar="SOURCE_URI", help="For example postgresql://user@host/db.")],
    out: Annotated[Path | None, typer.Option("--out", help="The job file to write.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The job's name; by default the file's, or the database's.")
    ] = None,
    variable: Annotated[
        str | None, typer.Option("--variable", help="The variable that will hold the URI: no file holds a secret.")
    ] = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Discover a source and write a job file; the URI itself, with its password, is never written."""
    import json as jsonlib
    from urllib.parse import urlsplit

    from runner.commands.output import run_async
    from runner.errors import UsageError
    from runner.naming import normalise
    from runner.plugins import load_plugins
    from runner.secrets import remember

    remember(source_uri)
    scheme = urlsplit(source_uri).scheme
    kinds = {
        alias: (kind, plugin) for kind, plugin in load_plugins("runner.sources").items() for alias in plugin.schemes
    }
    if scheme not in kinds:
        raise UsageError(
            f"There is no source for {scheme or 'that'}://.", guidance=f"Known: {', '.join(sorted(kinds))}."
        )
    kind, plugin = kinds[scheme]
    database = urlsplit(source_uri).path.strip("/") or kind
    job = normalise(name or (out.stem if out else database), 40)
    path = out or Path(f"{job}.yml")
    if path.exists():
        raise UsageError(f"{path} exists.", guidance="Give another file with --out.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"The folder {path.absolute().parent} does not exist.", guidance="Make it first.")
    tables = run_async(lambda: _discover(plugin({"dsn": source_uri})))
    if not tables:
        raise UsageError("The source shows no table to this user.", guidance="Check the database and the grants.")
    reference = variable or f"{job.upper()}_DSN"
    path.write_text(_text(job, kind, reference, tables, _schema_for(path)), "utf-8")
    if json:
        print(jsonlib.dumps({"job": str(path), "tables": len(tables), "variable": reference}))
        return 0
    print(f"wrote {path}: {len(tables)} tables")
    print(f"now: export {reference}='…the URI…', then `runner plan {path}` and `runner backfill {path}`")
    return 0


async def _discover(source: Any) -> list[Table]:
    async with source.session(1) as session:
        tables: list[Table] = await session.discover(["*"])
        return tables


def _schema_for(path: Path) -> str:
    """Return the JSON Schema's path as the job file's header names it; writes it where there is none."""
    import json as jsonlib
    import os

    from runner.runs import project_root
    from runner.schemas import json_schemas

    folder = path.absolute().parent
    committed = project_root(folder) / "orchestra" / "schemas" / "job.schema.json"
    if not committed.exists():
        committed = folder / "job.schema.json"
        committed.write_text(jsonlib.dumps(json_schemas()["job.schema.json"], indent=2) + "\n", "utf-8")
    return os.path.relpath(committed, folder)


def _text(job: str, kind: str, reference: str, tables: list[Table], schema: str) -> str:
    from collections import defaultdict

    by_schema: dict[str, list[Table]] = defaultdict(list)
    for table in tables:
        by_schema[table.schema].append(table)
    cursors = _cursors(tables)
    lines = [
        f"# yaml-language-server: $schema={schema}",
        f"name: {job}",
        f'source: {{type: {kind}, dsn: "${{{reference}}}"}}',
        "destination:",
        "  type: duckdb",
        f"  dataset: raw_{job}",
        '  table: "{schema}__{table}"' if len(by_schema) > 1 else '  table: "{table}"',
        "defaults:",
        "  mode: auto            # incremental where there are a key and an indexed cursor, else full",
        f"  cursor: [{', '.join(cursors)}]",
        "tables:",
    ]
    for name, members in by_schema.items():
        rows = sum(table.rows for table in members)
        keyless = sum(not table.primary_key for table in members)
        note = f"{len(members)} tables, about {rows:,} rows" + (f", {keyless} without a primary key" if keyless else "")
        lines.append(f"  {_quoted(name + '.*')}:   # {note}")
    return "\n".join(lines) + "\n"


def _cursors(tables: list[Table]) -> list[str]:
    """Return the names that order changes in this source, the commonest first."""
    from collections import Counter

    from runner.plan import can_order

    usual = ("updated_at", "modified_at", "systemmodstamp", "last_modified", "changed_at", "updated")
    found: Counter[str] = Counter()
    for table in tables:
        for column in table.columns:
            if column.name in usual and can_order(column.type):
                found[column.name] += 1
    return [name for name, _ in found.most_common()] or ["updated_at"]


def _quoted(pattern: str) -> str:
    plain = all(sign.isalnum() or sign in "_.*" for sign in pattern) and not pattern.startswith("*")
    return pattern if plain else '"' + pattern.replace("\\", "\\\\").replace('"', '\\"') + '"'
