"""The thread that keeps a consumer's promises while user code runs.

It renews leases, settles what the pool had no time to settle, hands back messages stuck behind a long
task, makes dead workers' messages ready again, reads a changed policy, and ends a drain that takes too long.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from celeriac.worker.consumer import Consumer

logger = logging.getLogger(__name__)

TICK_S = 0.05
#: Messages that wait behind running ones for so long go back to workers that may be free.
STUCK_S = 0.25
RENEWALS_PER_LEASE = 3
#: A pool that is busy, and so claims nothing, hears of a new policy after this at the latest.
POLICY_S = 1.0


class Keeper(threading.Thread):
    """Looks after one consumer until stopped.

    ``parent`` is the process that this one must not outlive by much; 0: none. ``on_tick`` is called a few
    times a second, as long as user code lets threads run.
    """

    def __init__(
        self,
        consumer: Consumer,
        *,
        parent: int = 0,
        on_tick: Callable[[], None] | None = None,
        on_overrun: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name="celeriac-keeper", daemon=True)
        self.consumer = consumer
        self.beat = time.monotonic()
        self._deadline: float | None = None
        self._stopped = threading.Event()
        self._on_overrun = on_overrun or _leave
        self._period = consumer.queue.lease_ms / 1000 / RENEWALS_PER_LEASE
        self._parent = parent
        self._on_tick = on_tick

    def run(self) -> None:
        renew_at = time.monotonic() + self._period
        read = 0.0
        while not self._stopped.wait(TICK_S):
            now = self.beat = time.monotonic()
            consumer = self.consumer
            if self._on_tick is not None:
                self._on_tick()
            if consumer.settle_is_due(now):
                consumer.settle()
            stuck = now - consumer.last_take > STUCK_S or consumer.closing.is_set()
            holds = not consumer.waiting.empty() or consumer.asking
            if consumer.returning or (stuck and holds):
                consumer.give_back()
            if now >= renew_at:
                renew_at = now + self._period
                self._look_after(consumer)
            if now - max(consumer.last_claim, read) > POLICY_S:
                read = now
                consumer.read_record()
            if self._deadline is not None and now >= self._deadline:
                logger.warning("the grace time is over: %d messages go back", len(consumer.running))
                consumer.give_back_all()
                self._on_overrun()
                return

    def close_by(self, deadline: float) -> None:
        """Start the drain: at ``deadline`` (monotonic) the rest is handed back and the process ends."""
        self._deadline = deadline

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self is not threading.current_thread():
            self.join(timeout=5)

    def _look_after(self, consumer: Consumer) -> None:
        consumer.renew()
        consumer.reclaim()
        if self._parent and os.getppid() != self._parent:
            logger.warning("the process that started this worker is gone: draining")
            consumer.closing.set()


def _leave() -> None:
    logging.shutdown()
    os._exit(0)
