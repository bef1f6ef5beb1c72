"""The fence: nothing is written, to the API server or to a broker, by an operator that does not lead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from celeriac.spec.errors import CeleriacError


class Fenced(CeleriacError, RuntimeError):
    """This operator does not hold the Lease now, so it must not write."""


class Fence:
    """Open until a moment that every renewal of the Lease moves ahead; closed for good by ``close``."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._lock = threading.Lock()
        self._until = 0.0
        self._closed = False

    def open_until(self, moment: float) -> None:
        """Let writes through until ``moment`` (monotonic seconds)."""
        with self._lock:
            self._until = moment

    def close(self) -> None:
        """Let nothing through any more, whatever comes."""
        with self._lock:
            self._closed = True

    @property
    def open(self) -> bool:
        """Whether writes get through now."""
        with self._lock:
            return not self._closed and self._now() < self._until

    def check(self) -> None:
        """Raise Fenced unless writes get through now."""
        if not self.open:
            raise Fenced("the Lease is not held")
