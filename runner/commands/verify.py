"""``runner verify``: compare what is published with the record, the source or a proof; repair what differs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.commands import options as opt

if TYPE_CHECKING:
    from runner.audit import Finding
    from runner.commands.output import Output
    from runner.jobfile import SettledJob

_SIGNS = {
    "equal": "[green]✓[/]", "changed since": "[yellow]~[/]", "published again": "[yellow]~[/]",
}  # fmt: skip


def command(
    job: opt.JobPath,
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Only what this run published last.")] = None,
    tables: opt.Tables = None,
    repair: Annotated[bool, typer.Option("--repair", help="Read again what differs; shows the plan first.")] = False,
    proof: Annotated[
        Path | None, typer.Option("--proof", metavar="FILE", help="Compare with a proof.json, without the source.")
    ] = None,
    show_values: Annotated[bool, typer.Option("--show-values", help="Print values that differ.")] = False,
    yes: opt.Yes = False,
    env: opt.Env = None,
    state_dir: opt.StateDir = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Compare published tables, value by value: with the record of their run, then with the source as it is now."""
    from runner.audit import Audit
    from runner.clock import SystemClock
    from runner.commands.assembly import make_destination, make_source
    from runner.commands.output import Output, run_async
    from runner.jobfile import load_job
    from runner.secrets import environment

    output = Output(json, quiet, debug)
    if proof is not None:
        return _check_proof(proof, load_job(job, env=env, source=False), output, tuple(tables or ()))
    settled = load_job(job, env=env)
    audit = Audit(
        settled,
        make_source(settled),
        make_destination(settled),
        clock=SystemClock(),
        environ=environment(job.resolve().parent),
        only=tuple(tables or ()),
        values=show_values,
        wanted=run,
        told=None if output.quiet else lambda words: print(f"warning: {words}", file=sys.stderr),
    )
    findings = run_async(audit.run)
    _print_findings(findings, output)
    good = all(finding.good for finding in findings)
    wrong = [finding for finding in findings if finding.wrong]
    if not (repair and wrong):
        return 0 if good else 1
    merges = "incremental" in make_destination(settled).promises
    code = _repair(settled, wrong, output, job, state_dir, yes=yes, merges=merges)
    others = all(finding.good for finding in findings if not finding.wrong)
    return code if code or others else 1


def _repair(
    settled: SettledJob,
    wrong: list[Finding],
    output: Output,
    job: Path,
    state_dir: Path | None,
    *,
    yes: bool,
    merges: bool,
) -> int:
    from runner.commands.assembly import run_job, state_folder
    from runner.commands.summary import print_result
    from runner.settling import Options

    refused = [finding for finding in wrong if finding.beyond_repair]
    repaired = [finding for finding in wrong if not finding.beyond_repair]
    _say("\nto repair:")
    parts = {finding.name: finding.repair if merges else None for finding in repaired}
    for finding in repaired:
        part, found = parts[finding.name], finding.difference
        what = "the whole table" if part is None or found is None else f"{len(part.prefixes)} of {found.parts} parts"
        _say(f"  {finding.name}: read {what} again and replace it")
    for finding in refused:
        _say(f"  {finding.name}: left alone: {finding.beyond_repair}")
    if not repaired:
        return 1
    if not yes:
        _say("nothing was changed; add --yes to do it")
        return 1
    options = Options(
        only=tuple(finding.name for finding in repaired),
        verify="hash",
        repair=parts,
    )
    result = run_job(settled, options, output, state_folder(job, state_dir))
    print_result(result, output)
    return result.exit_code or int(bool(refused))


def _check_proof(path: Path, settled: SettledJob, output: Output, only: tuple[str, ...]) -> int:
    from runner.commands.assembly import make_destination
    from runner.errors import UsageError
    from runner.job import matches
    from runner.proof import Checked, check, read_proof

    proof = read_proof(path)
    if proof["job"] != settled.job.name:
        raise UsageError(f"The proof is of the job {proof['job']!r}, and this job is {settled.job.name!r}.")
    if only:
        kept = [one for one in proof["tables"] if any(matches(pattern, one["table"]) for pattern in only)]
        proof = {**proof, "tables": kept}
    writer = make_destination(settled).writer(proof["dataset"])
    try:
        found = check(proof, writer, writer.read_state(None))
    finally:
        writer.close()
    good = bool(found) and all(one.state == "equal" for one in found)
    if output.json:
        rows = [one.__dict__ for one in found]
        _say_json({"run": proof["run"], "root": proof["root"], "equal": good, "tables": rows})
        return 0 if good else 1

    def words(one: Checked) -> str:
        return f"{one.rows:,} rows" if one.state == "equal" else "; ".join(one.wrong)

    _say(f"proof of run {proof['run']} (job {proof['job']}, root {proof['root'][:16]}…)")
    _print_rows([(one.state, one.table, words(one)) for one in found], quiet=output.quiet)
    equal = sum(one.state == "equal" for one in found)
    _say(f"{equal} of {len(found)} tables are as they were proved")
    return 0 if good else 1


def _print_findings(findings: list[Finding], output: Output) -> None:
    from runner.audit import STATES
    from runner.secrets import redact

    if output.json:
        _say_json([finding.record() for finding in findings])
        return
    rows = []
    for finding in findings:
        words = f"{finding.rows:,} rows, {STATES[finding.state]}"
        if finding.state in ("missing", "failed"):
            words = STATES[finding.state]
        if finding.error is not None:
            words += f": {redact(finding.error.message)}"
        if finding.difference is not None:
            words += f": {finding.difference.sentence()}"
        rows.append((finding.state, finding.name, words))
    _print_rows(rows, quiet=output.quiet)
    equal = sum(finding.state == "equal" for finding in findings)
    _say(f"{equal} of {len(findings)} tables are equal to the source, value by value")


def _print_rows(rows: list[tuple[str, str, str]], *, quiet: bool) -> None:
    from rich.markup import escape

    from runner.commands.screen import screen

    console = screen()
    for state, table, words in rows:
        if not (quiet and state == "equal"):
            sign = _SIGNS.get(state, "[red]✗[/]")
            console.print(
                f"  {sign} {escape(table)}: {escape(f'{state}: ' if state not in words else '')}{escape(words)}"
            )


def _say(text: str) -> None:
    print(text)
    sys.stdout.flush()


def _say_json(value: Any) -> None:
    import json

    _say(json.dumps(value, indent=2, default=str))
