"""A consumer's way to its queue: whoever asks there survives a broker that does not answer.

All threads of a worker ask through here. Trouble is told once, and waited out for a moment; a queue without
a record, whose server may have lost it, is declared again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import redis

from celeriac.broker.queue import Queue, QueueNotDeclared
from celeriac.worker.closing import Closing
from celeriac.worker.machine import Machine

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: With the broker out of reach, try again after this, doubling up to the longest.
RETRY_S = 0.05
LONGEST_RETRY_S = 1.0


class Link:
    """Asks a queue, and knows since when it answers. From any thread, without a lock."""

    def __init__(
        self, queue: Queue, *, closing: Closing, machine: Machine, declare: Callable[[], object]
    ) -> None:
        """``declare`` gives the queue a record when it has none; it may raise as the queue does."""
        self.queue = queue
        self._closing = closing
        self._machine = machine
        self._declare = declare
        #: Since when the broker has answered without a break; None while it does not. Written by who has
        #: asked, read by any: the newest answer counts, whosever it is.
        self.connected_since: float | None = None
        #: Questions in a row that got no answer. Written and read by who has asked: a lost count makes a wait
        #: shorter, no more.
        self._failures = 0
        #: Whether it has answered, ever. Written and read by who has asked.
        self._met = False

    def ask(self, call: Callable[[], T]) -> T | None:
        """Ask the broker; None when it could not answer, after a short wait."""
        try:
            answer = call()
        except QueueNotDeclared:
            if not self._met:
                # Nobody has declared it before its first worker came: that is no trouble.
                self._met = True
                logger.info("queue %s is new: it gets the default policy", self.queue.name)
                self._give_record()
                return None
            self._after_trouble("no record, so it gets the default policy", self._give_record)
            return None
        except redis.RedisError as error:
            self._after_trouble(f"{type(error).__name__}: {error}")
            return None
        if self.connected_since is None:
            self._met = True
            self.connected_since = self._machine.monotonic()
            if self._failures:
                logger.info("queue %s: the broker answers again", self.queue.name)
            self._failures = 0
        return answer

    def _give_record(self) -> None:
        try:
            self._declare()
        except redis.RedisError:
            logger.debug("queue %s: declaring failed", self.queue.name, exc_info=True)

    def _after_trouble(self, text: str, remedy: Callable[[], object] | None = None) -> None:
        self.connected_since = None
        self._failures += 1
        if self._failures == 1:
            logger.error(
                "queue %s: %s; holding what is leased and trying again", self.queue.name, text
            )
        if remedy is not None:
            remedy()
        self._closing.wait(min(LONGEST_RETRY_S, RETRY_S * 2 ** min(self._failures, 6)))
