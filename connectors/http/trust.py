"""Which certificates are trusted: read once for all sessions of a process, and again when they change."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path


def trusted(ca_file: str | None) -> ssl.SSLContext:
    """Return what connections are verified with; blocks.

    Args:
        ca_file: Certificates to trust besides the system's.

    Raises:
        OSError: It cannot be read; ssl.SSLError where it holds no certificates.
    """
    # What OpenSSL looks at by itself, too (SSL_CTX_set_default_verify_paths(3)).
    system = tuple(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    return _context(system, ca_file, Path(ca_file).stat().st_mtime_ns if ca_file else 0)


@lru_cache(maxsize=32)
def _context(system: tuple[str | None, ...], ca_file: str | None, changed: int) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context
