"""Programs that are no dependency of the product, each in an environment of its own, made on first use."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class NotInstalled(Exception):
    """An environment could not be made."""


def environment(requirements: Path) -> Path:
    """Return the Python of an environment that holds just these requirements.

    Raises:
        NotInstalled: They cannot be installed here.
    """
    name = requirements.stem
    stamp = f"{sys.version_info[:2]} {requirements.read_text('utf-8')}"
    return _made(name, stamp, lambda making: _install(making, requirements)) / "bin" / "python"


def modules(manifest: Path) -> tuple[str, Path]:
    """Return node, and a folder where it finds the modules of a package.json.

    Raises:
        NotInstalled: There is no node here, or they cannot be installed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotInstalled("node and npm are not on the path")

    def install(making: Path) -> None:
        shutil.copy(manifest, making / "package.json")
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
        subprocess.run(command, check=True, capture_output=True, timeout=600, cwd=making)

    return node, _made(manifest.stem, manifest.read_text("utf-8"), install)


def _made(name: str, stamp: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of an environment; of several processes that want it, one makes it and the others wait."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orchestra-blueprints"
    made = cache / f"{name}-{hashlib.blake2b(stamp.encode(), digest_size=8).hexdigest()}"
    if made.exists():
        return made
    cache.mkdir(parents=True, exist_ok=True)
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            return made
        making = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
        try:
            make(making)
            making.rename(made)
        except (OSError, subprocess.SubprocessError) as error:
            raise NotInstalled(f"{name} cannot be installed: {error}") from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return made


def _install(folder: Path, requirements: Path) -> None:
    """Install with uv, which takes a tenth of the time; with pip, which knows indexes of its own, where that fails."""
    python = str(folder / "bin" / "python")
    try:
        import uv

        program = uv.find_uv_bin()
        _run([program, "venv", "-q", "--allow-existing", "--python", sys.executable, str(folder)])
        _run([program, "pip", "install", "-q", "--compile-bytecode", "--python", python, "-r", str(requirements)])
    except (ImportError, OSError, subprocess.SubprocessError):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(requirements)])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=600)


def make_all(folder: Path) -> None:
    """Make every environment of a folder, some at a time: no test has to wait for it within its time limit."""
    makers: list[tuple[Callable[[Path], object], Path]] = [
        *((environment, file) for file in folder.glob("*.txt")),
        *((modules, file) for file in [*folder.glob("*.json"), *folder.glob("*/package.json")]),
    ]

    def make(maker: Callable[[Path], object], file: Path) -> None:
        try:
            maker(file)
        except NotInstalled as error:  # the tests that need it say so
            print(error, file=sys.stderr)

    with ThreadPoolExecutor(3) as threads:
        for made in [threads.submit(make, *one) for one in makers]:
            made.result()


if __name__ == "__main__":
    make_all(Path(__file__).with_name("servers"))
