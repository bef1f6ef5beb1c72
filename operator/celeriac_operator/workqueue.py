"""The work queue: every key at most once, never in two hands, again after a delay, later after each failure.

The rules are those of client-go's queue. A key that is added while it is worked on is worked on again.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_S = 0.5
#: What was in the way is seldom told to be gone (a webhook that is back): so long at most is it waited for.
LAST_RETRY_S = 8.0


class WorkQueue(Generic[K]):
    """Keys that wait for a worker. Every method may be called from any thread."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._changed = threading.Condition()
        self._ready: deque[K] = deque()
        self._queued: set[K] = set()
        self._held: set[K] = set()
        self._again: set[K] = set()
        self._later: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._count = 0
        self._failures: dict[K, int] = {}
        self._closed = False

    def __len__(self) -> int:
        """How many keys wait for a worker now."""
        with self._changed:
            return len(self._ready) + len(self._again)

    def add(self, key: K) -> None:
        """Let a key be worked on as soon as a worker is free."""
        with self._changed:
            if not self._closed:
                self._add(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Let a key be worked on in ``delay_s`` seconds, or earlier if that was asked for."""
        with self._changed:
            at = self._now() + delay_s
            if self._closed or self._due.get(key, float("inf")) <= at:
                return
            self._due[key] = at
            self._count += 1
            heapq.heappush(self._later, (at, self._count, key))
            self._changed.notify()

    def retry(self, key: K) -> float:
        """Let a key that failed be worked on after a wait that doubles each time; return the wait."""
        with self._changed:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
        delay = min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures, 20))
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: K) -> None:
        """Forget the failures of a key."""
        with self._changed:
            self._failures.pop(key, None)

    def take(self, timeout_s: float) -> K | None:
        """Take a key to work on; None when none came in time. Give it back with :meth:`done`."""
        end = self._now() + timeout_s
        with self._changed:
            while not self._closed:
                self._ripen()
                if self._ready:
                    key = self._ready.popleft()
                    self._queued.discard(key)
                    self._held.add(key)
                    return key
                left = end - self._now()
                if left <= 0:
                    return None
                if self._later:
                    left = min(left, max(0.0, self._later[0][0] - self._now()))
                self._changed.wait(left)
            return None

    def done(self, key: K) -> None:
        """Give back a key that was taken."""
        with self._changed:
            self._held.discard(key)
            if key in self._again:
                self._again.discard(key)
                self._add(key)

    def close(self) -> None:
        """Hand out nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, key: K) -> None:
        self._due.pop(key, None)  # what was due later comes now
        if key in self._held:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._changed.notify()

    def _ripen(self) -> None:
        while self._later and self._later[0][0] <= self._now():
            at, _, key = heapq.heappop(self._later)
            if self._due.get(key) == at:
                self._add(key)
