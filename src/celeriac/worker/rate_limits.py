"""Rate limits of tasks, per worker, as Celery keeps them: `rate_limit = "10/m"` and its setting.

The times at which a limited task may start are handed out one by one, so far apart as its limit says (the
generic cell rate algorithm of ITU-T I.371, with a burst of one, as Celery's token bucket has). A message
whose time has not come goes back to the queue until then, free of charge, and starts when it comes again: the
time was its own. So nothing waits inside a worker, other messages go on, and each goes back at most once.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import mmap
from typing import Any, Final

from celery import Celery
from celery.utils.time import rate

from celeriac.broker.message import Failure, Message, Postpone

#: What the history says of a message that has waited for its time.
REASON: Final = "rate_limited"
_MARK = f'{{"reason":"{REASON}"'.encode()
#: Times are handed out for no longer ahead: a limit may be changed, and a worker may go.
HORIZON_S: Final = 300.0


class RateLimits:
    """The limits of an app's tasks, shared by the threads of a worker and by what it forks."""

    def __init__(self, app: Celery, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` tells seconds that never jump, the same in all processes of this machine."""
        self._clock = clock
        self._intervals = _intervals(app)
        self._places = {name: place for place, name in enumerate(self._intervals)}
        #: The tasks that have a limit: whoever runs a message of another need not ask.
        self.tasks = frozenset(self._intervals)
        # Memory that children inherit, and a lock that ends with the process which holds it.
        self._next = memoryview(mmap(-1, 8 * max(1, len(self._places)))).cast("d")
        self._lock = threading.Lock()
        self._file = _shared_file() if self._places else None

    def wait(self, message: Message, *, worker: str) -> Postpone | None:
        """Hand out a time to start; None when that is now."""
        if message.task not in self._intervals or message.history.startswith(_MARK):
            return None
        wait_s, its_own = self._take(message.task)
        if wait_s <= 0:
            return None
        failure = Failure(reason=REASON, worker=worker) if its_own else None
        return Postpone(delay_ms=max(1, round(wait_s * 1000)), failure=failure)

    def _take(self, task: str) -> tuple[float, bool]:
        """How long to wait (seconds), and whether the time after that is taken."""
        place, now = self._places[task], self._clock()
        with self._alone():
            start = max(now, self._next[place])
            if start - now > HORIZON_S:
                return HORIZON_S, False
            self._next[place] = start + self._intervals[task]
        return start - now, True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        assert self._file is not None
        with self._lock:  # prefork children have one thread each that asks, and their parent none
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def _shared_file() -> int:
    """A file of nobody's, for its lock."""
    if hasattr(os, "memfd_create"):  # a container's file system may be read-only
        return os.memfd_create("celeriac-rate-limits")
    return os.dup(tempfile.TemporaryFile().fileno())


def _intervals(app: Celery) -> dict[str, float]:
    """Seconds between two starts of each limited task."""
    if app.conf.worker_disable_rate_limits:
        return {}
    limits = {name: _per_second(task) for name, task in app.tasks.items()}
    return {name: 1 / limit for name, limit in limits.items() if limit > 0}


def _per_second(task: Any) -> float:
    limit: float = rate(task.rate_limit)
    return limit
