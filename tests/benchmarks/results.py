"""Figures as tables: on the terminal, as JSON, and as a dated section of RESULTS.md."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.cases import Bar, Case
from tests.benchmarks.measure import Measured

RECORD = Path(__file__).with_name("RESULTS.md")
_PRODUCT = ("duckdb", "pyarrow", "asyncpg", "dlt")


@dataclass
class Found:
    """What one case found.

    Attributes:
        runs: Per contender, one measurement a round.
        wrong: Contenders whose rows are not those of the source, and how.
        absent: Contenders that could not run, and why.
    """

    case: Case
    rows: int = 0
    runs: dict[str, list[Measured]] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def ratios(self, one: str, other: str) -> list[float]:
        """Return the ratio of two contenders' times, round by round."""
        pairs = zip(self.runs.get(one, []), self.runs.get(other, []), strict=False)
        return sorted(a.wall / b.wall for a, b in pairs)

    def bars(self) -> list[tuple[Bar, float]]:
        """Return the bars that could be measured, with the median ratio."""
        measured = [(bar, self.ratios(bar.one, bar.other)) for bar in self.case.bars]
        return [(bar, statistics.median(ratios)) for bar, ratios in measured if ratios]


def table(found: Found) -> list[str]:
    """Return the lines of a Markdown table."""
    base = next((name for name in ("DuckDB", "psql") if name in found.runs), next(iter(found.runs), ""))
    lines = [
        f"### {found.case.name}",
        "",
        f"{found.rows:,} rows; ratios to {base}'s time, round by round: median (least to most).",
        "",
        "| | wall s | ratio | CPU s | server CPU s | peak MiB | longest statement s | rows |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, runs in found.runs.items():
        ratios = found.ratios(name, base)
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if ratios else ""
        cells = [
            f"{_median(runs, 'wall'):.2f}", ratio, f"{_median(runs, 'cpu'):.2f}", f"{_median(runs, 'server'):.2f}",
            f"{max(run.memory for run in runs):.0f}", f"{max(run.longest for run in runs):.2f}",
            found.wrong.get(name, "equal"),
        ]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [f"| {name} | could not run: {why} | | | | | | |" for name, why in found.absent.items()]
    lines.append("")
    for bar, ratio in found.bars():
        aim = f", aim <= {bar.aim:g}" if bar.aim is not None else ""
        verdict = "met" if bar.met(ratio) else "**missed**"
        lines.append(f"- {bar.one} / {bar.other} = {ratio:.2f} (bar {bar}{aim}): {verdict}")
    for name, most in found.case.memory:
        if name in found.runs:
            peak = max(run.memory for run in found.runs[name]) * 2**20 / 1e6
            lines.append(f"- {name}: {peak:.0f} MB resident (bar <= {most}): {'met' if peak <= most else '**missed**'}")
    return lines


def write(found: Sequence[Found], *, scale: float, rounds: int, folder: Path, record: bool) -> None:
    """Write ``bench.json`` and ``section.md``; put the section into RESULTS.md too, if it is to be on record."""
    now = datetime.now(UTC)
    machine = hardware()
    data = {
        "at": now.isoformat(timespec="seconds"), "scale": scale, "rounds": rounds, "machine": machine,
        "cases": [
            {"case": one.case.name, "rows": one.rows, "wrong": one.wrong, "absent": one.absent,
             "runs": {name: [asdict(run) for run in runs] for name, runs in one.runs.items()}}
            for one in found
        ],
    }  # fmt: skip
    (folder / "bench.json").write_text(json.dumps(data, indent=1))
    lines = [
        f"## {now:%Y-%m-%d}, scale factor {scale:g}",
        "",
        f"{rounds} interleaved rounds after a warm-up. "
        + "; ".join(f"{key}: {value}" for key, value in machine.items()),
        "",
    ]
    for one in found:
        lines += [*table(one), ""]
    keep(lines, folder=folder, name="section", record=record)


def keep(lines: Sequence[str], *, folder: Path, name: str, record: bool) -> None:
    """Write a section into the folder; put it into RESULTS.md too, in the place of one of equal title."""
    section = "\n".join(lines).rstrip() + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(section)
    if record:
        before = RECORD.read_text().split("\n## ")
        kept = [one for one in before[1:] if not one.startswith(lines[0].removeprefix("## ") + "\n")]
        RECORD.write_text("\n## ".join([before[0], section.removeprefix("## "), *kept]).rstrip() + "\n")


def hardware() -> Mapping[str, str]:
    """Return what the figures depend on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "CPU": f"{len(os.sched_getaffinity(0))} x {cpu}",
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        **{name: version(name) for name in _PRODUCT},
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _median(runs: Sequence[Measured], name: str) -> float:
    return statistics.median(getattr(run, name) for run in runs)
