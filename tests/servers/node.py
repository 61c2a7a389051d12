"""Packages of npm, each set in a folder of its own, made on first use: none of them is a dependency of the product."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.environments import NotInstalled


def packages(manifest: Path) -> Path:
    """Return the folder ``node_modules`` that holds what a package.json names.

    Raises:
        NotInstalled: npm is not here, or it cannot install them.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NotInstalled("npm and node are not installed (Debian: apt-get install nodejs npm)")
    digest = hashlib.blake2b(manifest.read_bytes(), digest_size=8).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orchestra-blueprints"
    made = cache / f"{manifest.parent.name}-{digest}"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
        try:
            shutil.copy(manifest, making)
            command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"]
            subprocess.run(command, cwd=making, check=True, capture_output=True, timeout=600)
            with contextlib.suppress(OSError):  # another process was first
                making.rename(made)
        except (OSError, subprocess.SubprocessError) as error:
            raise NotInstalled(f"{manifest.parent.name} cannot be installed: {error}") from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return made / "node_modules"
