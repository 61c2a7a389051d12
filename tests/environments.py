"""Programs that are no dependency of the product, each in an environment of its own, made on first use."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
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
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orchestra-blueprints"
    made = cache / f"{name}-{hashlib.blake2b(stamp.encode(), digest_size=8).hexdigest()}"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
        try:
            _install(making, requirements)
            with contextlib.suppress(OSError):  # another process was first
                making.rename(made)
        except (OSError, subprocess.SubprocessError) as error:
            raise NotInstalled(f"{name} cannot be installed: {error}") from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return made / "bin" / "python"


def modules(manifest: Path) -> tuple[str, Path]:
    """Return node, and a folder where it finds the modules of a package.json.

    Raises:
        NotInstalled: There is no node here, or they cannot be installed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotInstalled("node and npm are not on the path")
    stamp = hashlib.blake2b(manifest.read_bytes(), digest_size=8).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orchestra-blueprints"
    made = cache / f"{manifest.stem}-{stamp}"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
        try:
            shutil.copy(manifest, making / "package.json")
            command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
            subprocess.run(command, check=True, capture_output=True, timeout=600, cwd=making)
            with contextlib.suppress(OSError):  # another process was first
                making.rename(made)
        except (OSError, subprocess.SubprocessError) as error:
            raise NotInstalled(f"{manifest.stem} cannot be installed: {error}") from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return node, made


def _install(folder: Path, requirements: Path) -> None:
    uv = shutil.which("uv")
    python = str(folder / "bin" / "python")
    if uv is not None:
        commands = [
            [uv, "venv", "-q", "--allow-existing", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "-q", "--python", python, "-r", str(requirements)],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", str(folder)],
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(requirements)],
        ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, timeout=600)
