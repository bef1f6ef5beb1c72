"""Time limits in a prefork child, and the slot in shared memory through which its parent watches it.

The soft limit raises SoftTimeLimitExceeded inside the task, from an interval timer of the child itself.
The hard limit is the parent's: it reads in the slot since when what runs, and kills the child.
"""

from __future__ import annotations

import mmap
import signal
import struct
import time
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from celeriac.broker.message import Message

_LAYOUT = struct.Struct("<ddiii48s200s200s")


@dataclass(frozen=True, slots=True)
class Running:
    """What a child is running: enough for its parent to settle the message in its place."""

    started: float
    """Monotonic seconds, the same clock in parent and child."""
    hard_s: float
    """The hard limit in seconds; 0 when there is none."""
    attempt: int
    delivery: int
    max_attempts: int
    lease: str
    id: str
    task: str


class Slot:
    """A page of memory that a child writes and its parent reads."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _LAYOUT.size)

    def write(self, message: Message, hard_s: float, max_attempts: int) -> None:
        """Note what starts running now."""
        _LAYOUT.pack_into(
            self._page,
            0,
            time.monotonic(),
            hard_s,
            message.attempt,
            message.delivery,
            max_attempts,
            message.lease.encode(),
            message.id.encode()[:200],
            message.task.encode()[:200],
        )

    def clear(self) -> None:
        """Note that nothing runs."""
        _LAYOUT.pack_into(self._page, 0, 0.0, 0.0, 0, 0, 0, b"", b"", b"")

    def read(self) -> Running | None:
        """What runs; None when nothing does."""
        started, hard, attempt, delivery, most, lease, id_, task = _LAYOUT.unpack_from(self._page)
        if not started:
            return None
        lease, id_, task = (
            raw.rstrip(b"\0").decode("utf-8", "ignore") for raw in (lease, id_, task)
        )
        return Running(started, hard, attempt, delivery, most, lease, id_, task)


class TimeLimits:
    """Keeps the limits of one child's messages: one at a time, in its main thread."""

    def __init__(self, slot: Slot, *, soft_s: float = 0, hard_s: float = 0) -> None:
        self._slot = slot
        self._soft_s = soft_s
        self._hard_s = hard_s
        self._soft_now = 0.0
        self._inside = False
        signal.signal(signal.SIGALRM, self._alarm)

    def kept(
        self, message: Message, task: Any, request: dict[str, Any], max_attempts: int | None
    ) -> TimeLimits:
        """Enter with ``with``: the limits hold inside. The message's own come before the task's,
        and those before the queue's."""
        hard, soft = request.get("timelimit") or (None, None)
        self._soft_now = soft or task.soft_time_limit or self._soft_s
        self._slot.write(message, hard or task.time_limit or self._hard_s, max_attempts or 0)
        return self

    def __enter__(self) -> None:
        self._inside = True
        if self._soft_now:
            signal.setitimer(signal.ITIMER_REAL, self._soft_now)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside = False
        if self._soft_now:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._slot.clear()

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        # The timer may fire just as the task ends; then there is nobody to interrupt.
        if self._inside:
            raise SoftTimeLimitExceeded()
