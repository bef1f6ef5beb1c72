"""What dead children left behind: returned to the queue, and told to Celery's side.

Since the parent knows from the child's scoreboard what was running, only that message is settled in its place
or charged with its death; the others go back free.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from celeriac.broker.message import DeadLetter, Message, Outcome, Settlement
from celeriac.broker.queue import Queue
from celeriac.worker.consumer import Consumer
from celeriac.worker.pools.prefork.scoreboard import Running

#: Told what became of a message that its process did not live to end: (message, outcome, why).
OnEnded = Callable[[Message, Outcome, Exception], None]

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Orphan:
    """What a dead child left: its consumer, and what it ran, if its parent killed it or it died of that.

    That message is either settled in the child's place, or charged with its death.
    """

    consumer: str
    running: Running | None
    settlement: Settlement | None
    error: Exception | None


class Orphans:
    """The orphans whose messages are not back yet, because the broker may be out of reach."""

    def __init__(
        self, steward: Consumer, *, on_ended: OnEnded, quiet: AbstractContextManager[Any]
    ) -> None:
        """``quiet`` is held while ``on_ended`` is told."""
        self._steward = steward
        self._on_ended = on_ended
        self._quiet = quiet
        self._waiting: deque[Orphan] = deque()
        self._telling: list[threading.Thread] = []

    def append(self, orphan: Orphan) -> None:
        """Add one; from any thread."""
        self._waiting.append(orphan)

    def take_back(self) -> None:
        """Return to the queue what they held, as far as the broker answers."""
        while self._waiting:
            orphan = self._waiting[0]
            # Repeated whole after trouble: what was settled already is then refused by its lease.
            ours = self._steward.link.ask(partial(_take_back, self._steward.queue, orphan))
            if ours is None:
                return
            self._waiting.popleft()
            if ours:
                self._tell(orphan)

    def wait(self, timeout_s: float) -> None:
        """Wait until another thread has taken all back and everything is told."""
        deadline = time.monotonic() + timeout_s
        while self._waiting and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        for thread in self._telling:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _tell(self, orphan: Orphan) -> None:
        running, error = orphan.running, orphan.error
        if running is None or error is None:
            return
        if orphan.settlement is not None:
            outcome = orphan.settlement.outcome
        elif running.message.lost + 1 >= self._steward.policy().dead_letter.max_deliveries:
            outcome = DeadLetter(reason="delivery_limit")
        else:
            return  # it runs again, and no attempt has ended
        # A thread of its own: a slow result backend must not hold up leases.
        thread = threading.Thread(
            target=self._tell_quietly, args=(running.message, outcome, error), daemon=True
        )
        thread.start()
        self._telling = [thread, *(other for other in self._telling if other.is_alive())]

    def _tell_quietly(self, message: Message, outcome: Outcome, error: Exception) -> None:
        with self._quiet:
            self._on_ended(message, outcome, error)


def _take_back(queue: Queue, orphan: Orphan) -> bool:
    """Return everything an orphan held; whether what it ran was still its own."""
    if orphan.settlement is not None:
        (ours,) = queue.settle([orphan.settlement])
        queue.abandon(orphan.consumer, running=[])
        return ours
    charged = [] if orphan.running is None else [orphan.running.message.lease]
    ours = bool(charged) and not queue.renew(orphan.consumer, charged)
    queue.abandon(orphan.consumer, running=charged)
    return ours
