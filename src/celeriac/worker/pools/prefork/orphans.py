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
from typing import Any, Literal

from celeriac.broker.message import DeadLetter, Message, Outcome, Settlement
from celeriac.broker.queue import Queue
from celeriac.worker.consumer import Consumer
from celeriac.worker.pools.prefork.scoreboard import Running

#: Told what became of a message that its process did not live to end: (message, outcome, why).
OnEnded = Callable[[Message, Outcome, Exception], None]

#: What became of the message that an orphan ran, as the broker says; lost: it was no longer the orphan's.
Fate = Literal["settled", "ready", "dead", "lost"]

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
            fate = self._steward.link.ask(partial(_take_back, self._steward.queue, orphan))
            if fate is None:
                return
            self._waiting.popleft()
            self._tell(orphan, fate)

    def wait(self, timeout_s: float) -> None:
        """Wait until another thread has taken all back and everything is told."""
        deadline = time.monotonic() + timeout_s
        while self._waiting and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        for thread in self._telling:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _tell(self, orphan: Orphan, fate: Fate) -> None:
        running, error = orphan.running, orphan.error
        if running is None or error is None:
            return
        if fate == "settled" and orphan.settlement is not None:
            outcome = orphan.settlement.outcome
        elif fate == "dead":
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


def _take_back(queue: Queue, orphan: Orphan) -> Fate:
    """Return everything an orphan held, and say what became of what it ran."""
    fate: Fate = "lost"
    if orphan.settlement is not None:
        (ours,) = queue.settle([orphan.settlement])
        fate = "settled" if ours else "lost"
    elif orphan.running is not None:
        fate = queue.charge(orphan.consumer, orphan.running.message.lease)
    queue.abandon(orphan.consumer, running=[])
    return fate
