"""Compressed bodies, decoded piece by piece; one that ends too early is told from a whole one (RFC 9110, 8.4)."""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from runner.errors import SourceDown

_PIECE = 2**20


class _Decompressor(Protocol):
    def pieces(self, data: bytes) -> Iterator[bytes]: ...

    @property
    def whole(self) -> bool: ...


class _Zlib:
    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._inner = zlib.decompressobj(bits)
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inner.eof:
                self._inner = zlib.decompressobj(self._bits)  # gzip may consist of several members (RFC 1952, 2.2)
            if self._bits == zlib.MAX_WBITS and not self._begun and data[0] & 0x0F != 8:
                # "deflate" without zlib's header, which some servers send.
                self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
            self._begun = True
            yield self._inner.decompress(data, _PIECE)
            data = self._inner.unconsumed_tail or self._inner.unused_data
        while not self._inner.eof and (rest := self._inner.decompress(b"", _PIECE)):
            yield rest  # what was held back by the length of a piece

    @property
    def whole(self) -> bool:
        return self._inner.eof or not self._begun


class _Brotli:
    def __init__(self) -> None:
        self._inner: Any = importlib.import_module("brotli").Decompressor()
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        self._begun = True
        yield self._inner.process(data, output_buffer_limit=_PIECE)
        while not self._inner.can_accept_more_data() and not self._inner.is_finished():
            yield self._inner.process(b"", output_buffer_limit=_PIECE)

    @property
    def whole(self) -> bool:
        return bool(self._inner.is_finished()) or not self._begun


class _Zstd:
    def __init__(self) -> None:
        self._inner: Any = _zstd().ZstdDecompressor()
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        self._begun = True
        while True:
            if self._inner.eof:
                if not data:
                    return
                self._inner = _zstd().ZstdDecompressor()  # frames may follow each other (RFC 8878, 3.1)
            yield self._inner.decompress(data, _PIECE)
            data = self._inner.unused_data if self._inner.eof else b""
            if not self._inner.eof and self._inner.needs_input:
                return

    @property
    def whole(self) -> bool:
        return bool(self._inner.eof) or not self._begun


class _Identity:
    whole = True

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield data


class Decoder:
    """Decodes one body.

    Args:
        encoding: The Content-Encoding.

    Raises:
        SourceDown: An encoding that was not asked for.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        self._inner: _Decompressor
        if self._encoding in ("gzip", "x-gzip"):
            self._inner = _Zlib(zlib.MAX_WBITS | 16)
        elif self._encoding == "deflate":
            self._inner = _Zlib(zlib.MAX_WBITS)
        elif self._encoding == "br":
            self._inner = _Brotli()
        elif self._encoding == "zstd":
            self._inner = _Zstd()
        elif self._encoding in ("", "identity"):
            self._inner = _Identity()
        else:
            raise SourceDown(f"The answer is encoded as {self._encoding!r}, which was not asked for.")

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Return what is in some more bytes, in pieces of at most a mebibyte.

        Raises:
            SourceDown: They are damaged.
        """
        try:
            yield from (piece for piece in self._inner.pieces(data) if piece)
        except Exception as error:  # each of the libraries has an error of its own
            raise SourceDown(f"The answer cannot be decompressed ({self._encoding}).") from error

    def finish(self) -> None:
        """Check that the body was whole.

        Raises:
            SourceDown: Its end is missing.
        """
        if not self._inner.whole:
            raise SourceDown(f"The answer was cut off: the end of its {self._encoding} stream is missing.")


def accepted() -> str:
    """Return the encodings to ask for."""
    return "gzip, deflate, br, zstd"


def _zstd() -> Any:
    # Part of Python since 3.14.
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name)
