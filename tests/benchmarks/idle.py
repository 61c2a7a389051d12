"""A sensor that looks at nothing: what is left is the engine."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

from sensors.sensor import Polled, Sensor, SensorConfig


class IdleConfig(SensorConfig):
    """It has no keys of its own."""


class IdleSensor(Sensor[IdleConfig]):
    kind = "idle"
    config_model = IdleConfig

    @property
    def system(self) -> Hashable:
        return "idle"

    def describe(self) -> str:
        return "nothing"

    async def poll(self, cursor: Any) -> Polled:
        return Polled(cursor=cursor)


def plug_in(folder: Path) -> None:
    """Write what makes Python take a folder on its path for an installed package that brings this type."""
    about = folder / "bench_idle-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-idle\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[runner.sensors]\nidle = tests.benchmarks.idle:IdleSensor\n")
