"""Unpacks compressed bodies, and stops where no honest one ends: a megabyte can hold a gigabyte of zeros."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final

from kombu import compression

#: As large as the largest message that any queue may accept (`limits.maxMessageBytes`).
LARGEST_BYTES: Final = 67_108_864

_BOUNDED: dict[str, Callable[[], Any]] = {
    "application/x-gzip": zlib.decompressobj,
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lzma.LZMADecompressor,
}
_ALIASES = {
    "gzip": "application/x-gzip",
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bzip": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
}


def decompress(body: bytes, content_type: str) -> bytes:
    """Unpack a body. Raises ValueError where it grows too large, and what the compressors raise.

    Others that kombu knows set their own limits, or none: zstandard and brotli where they are installed, and
    what an app registers.
    """
    make = _BOUNDED.get(_ALIASES.get(content_type, content_type))
    if make is None:
        unpacked: bytes = compression.decompress(body, content_type)
        return unpacked
    decompressor = make()
    data: bytes = decompressor.decompress(body, LARGEST_BYTES)
    if not decompressor.eof:
        raise ValueError(f"the compressed body ends too early, or is over {LARGEST_BYTES} bytes")
    return data
