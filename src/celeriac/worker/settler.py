"""What has ended and is not settled yet: outcomes on their way to the broker, many in one request.

Outcomes that could not be settled wait until the broker is back, since their leases are still ours or
somebody else's by then, which settling will tell.
"""

from __future__ import annotations

import logging
from collections import deque

from celeriac.broker.message import Lease, Message, Settlement
from celeriac.worker.link import Link
from celeriac.worker.machine import Machine

logger = logging.getLogger(__name__)

#: Finished messages are settled when so many wait, or when the oldest has waited so long; where the broker is
#: farther away than that, for one round trip: a pool of one thread does nothing else while it settles.
SETTLE_MESSAGES = 128
SETTLE_AFTER_S = 0.005


class Settler:
    """Gathers the outcomes of one consumer's messages, and settles them.

    Runners add to it; a runner, the housekeeper or Asyncio's own thread settles, one at a time.
    """

    def __init__(self, link: Link, machine: Machine) -> None:
        self._link = link
        #: Set by who has settled, waited for and cleared by the claimer, when it has no room.
        self.settled_some = machine.event()
        #: How many have ended. Written by runners, read by any; exact where there is one runner.
        self.count = 0
        #: What waits to be settled. Added to by runners, taken out and put back by who has `_settling`.
        self._finished: deque[Settlement] = deque()
        #: When the first of these ended. Written by runners, read by runners and housekeeper.
        self._oldest = 0.0
        #: Held by who settles.
        self._settling = machine.lock()
        #: On their way to the broker. Written under `_settling`, read by who renews.
        self._sent: list[Settlement] = []
        #: Leases whose settling got no answer: it may have happened. Added to under `_settling`, read and
        #: cleared just after it by who has settled: it only chooses the words of a log line.
        self._sent_before: set[Lease] = set()

    def __len__(self) -> int:
        return len(self._finished)

    @property
    def backlog(self) -> int:
        """How many wait for longer than their turn: settling fails."""
        return max(0, len(self._finished) - SETTLE_MESSAGES)

    def add(self, settlement: Settlement, now: float, trip_s: float) -> bool:
        """Take in what ended ``now`` (monotonic); True when it is time to settle, see :meth:`is_due`."""
        if not self._finished:
            self._oldest = now
        self._finished.append(settlement)
        self.count += 1
        return self.is_due(now, trip_s)

    def is_due(self, now: float, trip_s: float) -> bool:
        """Whether finished messages have waited long enough, with a broker ``trip_s`` seconds away."""
        waiting = len(self._finished)
        return waiting > 0 and (
            waiting >= SETTLE_MESSAGES or now - self._oldest >= max(SETTLE_AFTER_S, trip_s)
        )

    def leases(self) -> list[Lease]:
        """The leases that are still needed: of what waits, and of what is on its way."""
        ended = [*self._sent, *list(self._finished)]
        return [settlement.message.lease for settlement in ended]

    def settle(self, *, wait: bool = False) -> bool:
        """Settle what is finished; False when the broker could not be reached.

        Another thread may be at it, and will take ours along or leave them to the housekeeper; with ``wait``
        all is settled when this returns.
        """
        if not self._settling.acquire(blocking=wait):
            return True
        try:
            batch = self._sent = list(self._finished)
            if not batch:
                return True
            for _ in batch:
                self._finished.popleft()
            answers = self._link.ask(lambda: self._link.queue.settle(batch))
            if answers is None:
                self._finished.extendleft(reversed(batch))
                self._sent_before.update(settlement.message.lease for settlement in batch)
                return False
        finally:
            self._sent = []
            self._settling.release()
        self.settled_some.set()
        for settlement, ours in zip(batch, answers, strict=True):
            if not ours:
                self._tell_refused(settlement.message, type(settlement.outcome).__name__)
        self._sent_before.clear()
        return True

    def _tell_refused(self, message: Message, outcome: str) -> None:
        if message.lease in self._sent_before:
            text = "%s[%s] was settled just before the broker went away, or its lease is lost (%s)"
            logger.info(text, message.task, message.id, outcome)
        else:
            text = "%s[%s] finished after its lease was lost (%s): it counts where it runs again"
            logger.warning(text, message.task, message.id, outcome)
