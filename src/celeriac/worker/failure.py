"""Describes a failed attempt for the message's history: class, text and a digest of the traceback."""

from __future__ import annotations

import hashlib
import traceback

from celeriac.broker.message import Failure


def describe(
    error: BaseException, *, reason: str, worker: str, started_ms: int, ended_ms: int
) -> Failure:
    """Describe ``error``. The text is the error's own: put no payloads into error messages."""
    return Failure(
        reason=reason,
        error=type(error).__name__,
        message=_text(error),
        digest=digest(error),
        worker=worker,
        started_ms=started_ms,
        ended_ms=ended_ms,
    )


def digest(error: BaseException) -> str:
    """Twelve hex digits that are the same for errors of one class raised along one path.

    Files and functions count and line numbers do not, so that an edit elsewhere in a file keeps the
    group together.
    """
    frames = traceback.extract_tb(error.__traceback__)
    path = "|".join(f"{frame.filename}:{frame.name}" for frame in frames)
    text = f"{type(error).__module__}.{type(error).__qualname__}|{path}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:12]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an error whose own __str__ fails must not take the worker down
        return "<error text unavailable>"
