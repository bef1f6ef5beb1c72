"""The seam between deciding and running: how many workers, of which kind; the backend sees to it.

A backend is level-triggered. It is told again and again what should run, keeps that up by itself
(restarts, rolls, drains), and says what it sees. It knows nothing of messages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from celeriac.spec.conditions import Reason
from celeriac.spec.queue import MessageQueue


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a backend from running a queue's workers until somebody helps."""

    reason: Reason
    message: str
    """For people: what is in the way, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The workers of one queue, as their backend sees them."""

    wanted: int = 0
    """How many the backend was told to run last."""
    starting: int = 0
    """Started and not ready yet."""
    ready: int = 0
    """Ready for messages."""
    waiting: int = 0
    """Died, and to be started again after a wait."""
    draining: int = 0
    """Finishing what they hold; they are no longer counted among the others."""
    outdated: int = 0
    """Of those that start or are ready: how many still run what was declared before."""
    failures: int = 0
    """How often in a row the worst of them died soon after its start."""
    cannot_start: bool = False
    """The worst of them did not die: it waits for something that does not come by itself."""
    last_failure: str = ""
    """Why a worker died last, or cannot start, for people."""
    lost: tuple[str, ...] = ()
    """Workers that died, and whose messages may still be held; until acknowledged."""
    obstacle: Obstacle | None = None
    """What kept the backend from doing what it was told last."""

    @property
    def running(self) -> int:
        """Workers that take messages, or soon will."""
        return self.starting + self.ready


class Backend(Protocol):
    """Runs the workers of queues. Calls come from one thread and return soon."""

    def observe(self, queue: MessageQueue, *, heard: Mapping[str, int]) -> Fleet:
        """See how the queue's workers are.

        ``heard`` are the workers that the broker has heard of, with the number of messages each
        holds: a backend without probes of its own learns from it who is ready, and who is idle.
        """
        ...

    def ensure(self, queue: MessageQueue, *, replicas: int) -> None:
        """Go on towards ``replicas`` workers that run what the queue declares now.

        Workers that run something older are replaced one for one, so that never fewer than
        ``replicas`` are ready for it. Those that stop finish what they hold.
        """
        ...

    def remove(self, queue: MessageQueue) -> None:
        """Go on towards no workers at all, as ``ensure`` with none, and forget the queue."""
        ...

    def hurry(self, queue: MessageQueue) -> None:
        """Stop the queue's draining workers now: they hand back what they hold."""
        ...

    def acknowledge(self, queue: MessageQueue, workers: Collection[str]) -> None:
        """Forget lost workers, whose messages are taken back."""
        ...
