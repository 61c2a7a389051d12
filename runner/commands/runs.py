"""``runner runs``: the runs of this machine."""

from __future__ import annotations

from pathlib import Path

from runner.commands import options as opt


def command(
    state_dir: opt.StateDir = None, json: opt.Json = False, quiet: opt.Quiet = False, debug: opt.Debug = False
) -> int:
    """List the runs of this machine, newest first."""
    import json as jsonlib

    from rich.table import Table

    from runner.commands.assembly import state_folder
    from runner.commands.screen import screen
    from runner.ledger import LedgerReader

    folder = state_folder(Path.cwd(), state_dir)
    rows = []
    for run in folder.runs():
        record = run.record()
        if record is None:
            continue
        record["state"] = folder.state(record)
        with LedgerReader(run.ledger) as ledger:
            tables = ledger.tables()
        record["published"] = sum(table["state"] == "published" for table in tables)
        record["tables"] = len(tables)
        record["rows"] = sum(table["rows"] or 0 for table in tables)
        rows.append(record)
    if json:
        print(jsonlib.dumps(rows, indent=2))
        return 0
    if not rows:
        print(f"no runs under {folder.path}")
        return 0
    grid = Table("run", "job", "command", "state", "exit", "started", "tables", "rows", box=None, pad_edge=False)
    for row in rows:
        code = "" if row["exit_code"] is None else str(row["exit_code"])
        grid.add_row(
            row["run"], row["job"], row["command"], row["state"], code, row["started"][:19].replace("T", " "),
            f"{row['published']}/{row['tables']}", f"{row['rows']:,}",
        )  # fmt: skip
    screen().print(grid)
    return 0
