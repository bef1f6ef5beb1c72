"""Waiting for something to become true, and for it to stay so."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import redis

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: What looking may raise while the thing looked at is being disturbed.
_PASSING = (RuntimeError, LookupError, OSError, redis.RedisError)


def eventually(look: Callable[[], T | None], *, seconds: float, what: str, every: float = 0.2) -> T:
    """Look again and again until something true is seen, and return it."""
    began = time.monotonic()
    deadline = began + seconds
    while True:
        seen: object
        try:
            if found := look():
                logger.info("after %.1f s: %s", time.monotonic() - began, what)
                return found
            seen = found
        except _PASSING as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {seen!r}")
        time.sleep(every)


def stays(look: Callable[[], T], *, seconds: float, what: str, every: float = 1.0) -> None:
    """Look again and again, and fail as soon as anything else is seen than at first."""
    first = look()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(every)
        now = look()
        assert now == first, f"{what} changed from {first!r} to {now!r}"
