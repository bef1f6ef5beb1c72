"""The event loop of the Asyncio pool: asyncio's own, with timers that are on time.

On Linux asyncio waits in whole milliseconds, rounded up: a sleep of 10 ms takes 11, and a worker whose tasks
wait for as little gets a tenth less done. But an epoll can be waited for with ``select``, to the microsecond.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from typing import Any

#: What ``select`` can watch.
_LARGEST_FD = 1023
#: Longer waits may be late by a millisecond.
_EXACT_S = 0.1
#: An app patched for greenlets has none, on Linux either; it is told that it cannot run, a little later.
_HAS_EPOLL = hasattr(selectors, "EpollSelector")


def new_loop() -> asyncio.AbstractEventLoop:
    """Make the loop, which nobody runs yet; another kind, if the app has installed one, is taken as it is."""
    loop = asyncio.new_event_loop()
    if not _HAS_EPOLL or type(loop) is not asyncio.SelectorEventLoop:
        return loop
    loop.close()
    return asyncio.SelectorEventLoop(_ExactSelector())


if _HAS_EPOLL:

    class _ExactSelector(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[Any]:
            if timeout is not None and 0 < timeout < _EXACT_S and self.fileno() <= _LARGEST_FD:
                select.select((self.fileno(),), (), (), timeout)
                timeout = 0
            return super().select(timeout)
