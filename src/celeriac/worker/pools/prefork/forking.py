"""Keeps a parent's threads and its forking apart.

A forked child inherits every lock as it is at that moment, while the thread that would release it stays
behind: a child that was born while a thread imported a module would wait for that module for ever. So
threads of the parent do their work under ``quiet``, and the parent forks when it has it.
"""

from __future__ import annotations

import os
import threading
import time

#: A thread that is busy for longer (with a result backend that is away, say) is not waited for.
PATIENCE_S = 5.0


class Forker:
    """Forks at quiet moments."""

    def __init__(self) -> None:
        #: Held by threads of the parent while they do more than wait.
        self.quiet = threading.RLock()
        self._wanted_since: float | None = None

    def fork(self) -> int | None:
        """Fork as ``os.fork`` does; None when it is not quiet: call again a little later."""
        now = time.monotonic()
        if self._wanted_since is None:
            self._wanted_since = now
        if not self.quiet.acquire(blocking=False):
            if now - self._wanted_since < PATIENCE_S:
                return None
            self._wanted_since = None
            return os.fork()
        try:
            self._wanted_since = None
            return os.fork()
        finally:
            self.quiet.release()
