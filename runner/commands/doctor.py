"""``runner doctor``: check everything a job needs."""

from __future__ import annotations

from runner.commands import options as opt

_SIGNS = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]"}


def command(
    job: opt.JobPath,
    env: opt.Env = None,
    state_dir: opt.StateDir = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Check connections, grants, versions and disk, and say what to do; changes nothing."""
    import json as jsonlib

    from rich.markup import escape

    from runner.commands.assembly import assemble, state_folder
    from runner.commands.output import run_async
    from runner.commands.screen import screen
    from runner.doctor import examine
    from runner.secrets import environment, redact

    settled, source, destination = assemble(job, env)
    environ = environment(job.resolve().parent)
    folder = state_folder(job, state_dir).path
    told = run_async(lambda: examine(settled, source, destination, folder, environ))
    checks = [(state, redact(found), redact(advice)) for state, found, advice in told]
    if json:
        rows = [{"state": state, "found": found, "advice": advice} for state, found, advice in checks]
        print(jsonlib.dumps(rows, indent=2))
    else:
        console = screen()
        for state, found, advice in checks:
            if quiet and state == "ok":
                continue
            console.print(f"{_SIGNS[state]} {escape(found)}")
            if advice:
                console.print(f"    → {escape(advice)}")
    return 1 if any(state == "fail" for state, _, _ in checks) else 0
