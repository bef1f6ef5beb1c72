"""Progress of a running task, written beside its queue for whoever waits for it.

`report_progress()` inside a task finds the message it belongs to through a context variable that the worker
sets. Outside a worker it does nothing, so a task stays callable as a plain function.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from redis.exceptions import RedisError

from celeriac.broker.queue import Queue
from celeriac.broker.refusal import errors_of_ours

logger = logging.getLogger(__name__)

#: A task may report after every row; the broker hears of it no more often than this.
MIN_INTERVAL_S = 0.25
KEPT_S = 86_400
_NOTE_CHARS = 200


class ProgressSink(Protocol):
    """Where the progress of one message goes."""

    def report(self, done: int, total: int, note: str) -> None:
        """Take note that `done` of `total` steps are finished."""


current: ContextVar[ProgressSink | None] = ContextVar("celeriac_progress", default=None)
"""The sink of the message that runs in this thread or task; the worker sets it."""


def report_progress(done: int, total: int, note: str = "") -> None:
    """Say how far the running task is: `done` of `total` steps, and a short note for people.

    Cheap enough for an inner loop: most calls write nothing (the first and the last always do).
    """
    sink = current.get()
    if sink is not None:
        sink.report(done, total, note)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a task last reported, and when by its worker's clock."""

    done: int
    total: int
    note: str
    updated_ms: int


class QueueProgress:
    """Keeps a message's progress on the broker for a day, writing at most every `interval_s` seconds.

    `run` does the writing: where nobody may wait for the broker, in a thread (of one's own: order counts).
    """

    def __init__(
        self,
        queue: Queue,
        message_id: str,
        *,
        interval_s: float = MIN_INTERVAL_S,
        clock: Callable[[], float] = time.time,
        run: Callable[[Callable[[], None]], object] = lambda write: write(),
    ) -> None:
        self._queue = queue
        self._key = queue.keys.progress(message_id)
        self._interval_s = interval_s
        self._clock = clock
        self._run = run
        self._next_write: float | None = None

    def report(self, done: int, total: int, note: str) -> None:
        """Write it, unless the last write is too recent and there is more to come."""
        now = self._clock()
        if self._next_write is not None and now < self._next_write and done < total:
            return
        self._next_write = now + self._interval_s
        fields: dict[Any, Any] = {
            "done": done,
            "total": total,
            "note": note[:_NOTE_CHARS],
            "updatedMs": int(now * 1000),
        }
        self._run(lambda: self._write(fields))

    def _write(self, fields: dict[Any, Any]) -> None:
        try:
            pipeline = self._queue.client.pipeline(transaction=False)
            pipeline.hset(self._key, mapping=fields)
            pipeline.expire(self._key, KEPT_S)
            pipeline.execute()
        except RedisError as error:
            # The work matters, the progress bar does not.
            logger.warning("progress of %s was not written: %s", self._key, error)


def read_progress(queue: Queue, message_id: str) -> Progress | None:
    """Read what a message's task last reported; None when it never did, or long ago. Raises BrokerError."""
    with errors_of_ours():
        fields: Any = queue.client.hgetall(queue.keys.progress(message_id))
    if not fields:
        return None
    return Progress(
        done=int(fields[b"done"]),
        total=int(fields[b"total"]),
        note=fields[b"note"].decode("utf-8", "replace"),
        updated_ms=int(fields[b"updatedMs"]),
    )
