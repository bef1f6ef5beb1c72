"""The thread that keeps a consumer's promises while user code runs.

It renews leases, settles what the pool had no time to settle, hands back messages stuck behind a long
task, makes dead workers' messages ready again, reads a changed policy, and ends a drain that takes too long.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from math import inf

from celeriac.worker.consumer import Consumer
from celeriac.worker.machine import Thread

logger = logging.getLogger(__name__)

TICK_S = 0.05
#: Messages that wait behind running ones for so long go back to workers that may be free.
STUCK_S = 0.25
RENEWALS_PER_LEASE = 3
#: A pool that is busy, and so claims nothing, hears of a new policy after this at the latest.
POLICY_S = 1.0


class Housekeeper:
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
        self.consumer = consumer
        self._clock = consumer.machine.monotonic
        self.beat = self._clock()
        self._deadline = inf
        self._stopped = consumer.machine.event()
        self._thread: Thread = consumer.machine.thread(self.run, name="celeriac-housekeeper")
        self._on_overrun = on_overrun or _leave
        self._period = consumer.queue.lease_ms / 1000 / RENEWALS_PER_LEASE
        self._parent = parent
        self._on_tick = on_tick
        self._renew_at = self.beat + self._period
        self._read_at = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def run(self) -> None:
        """Look after the consumer until stopped, or until the drain has taken too long."""
        while not self._stopped.wait(TICK_S):
            self._tick()
            now = self._clock()
            if now >= self._deadline:
                running = len(self.consumer.inflight.running)
                logger.warning("the grace time is over: %d messages go back", running)
                self.consumer.give_back_all()
                self._on_overrun()
                return

    def _tick(self) -> None:
        self.beat = self._clock()
        if self._on_tick is not None:
            self._on_tick()
        for step in (self._settle, self._give_back, self._read_record):
            # First of all, and between any two requests: each may take as long as the broker's time-out.
            self._renew()
            step()

    def _renew(self) -> None:
        now = self._clock()
        if now >= self._renew_at:
            self._renew_at = now + self._period
            self._look_after(self.consumer)

    def _settle(self) -> None:
        if self.consumer.settle_is_due(self._clock()):
            self.consumer.settler.settle()

    def _give_back(self) -> None:
        consumer, inflight = self.consumer, self.consumer.inflight
        # Nothing runs while a pool of one thread talks to a broker that is far away.
        behind = bool(inflight.running) and self._clock() - inflight.last_take > STUCK_S
        holds = not inflight.waiting.empty() or consumer.asking
        if inflight.returning or ((behind or consumer.closing.is_set()) and holds):
            consumer.give_back()

    def _read_record(self) -> None:
        now = self._clock()
        idle_for = now - max(self.consumer.last_claim, self._read_at)
        if self.consumer.held and idle_for > POLICY_S:
            self._read_at = now
            self.consumer.read_record()

    def close_by(self, deadline: float) -> None:
        """Start the drain: at ``deadline`` (monotonic) the rest is handed back and the process ends.

        The earliest counts: a second signal may come while the first one is still being handled.
        """
        self._deadline = min(deadline, self._deadline)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def _look_after(self, consumer: Consumer) -> None:
        consumer.renew()
        consumer.reclaim()
        if self._parent and os.getppid() != self._parent:
            logger.warning("the process that started this worker is gone: draining")
            consumer.closing.set()


def _leave() -> None:
    logging.shutdown()
    os._exit(0)
