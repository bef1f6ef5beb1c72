"""Time limits in a prefork child, and the slot in shared memory through which its parent watches it.

The soft limit raises SoftTimeLimitExceeded inside the task, from an interval timer of the child itself.
The hard limit is the parent's: it reads in the slot since when what runs, and kills the child. The slot holds
the whole message, so that the parent can say what became of it.
"""

from __future__ import annotations

import logging
import mmap
import signal
import struct
import time
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from celeriac.broker.message import Lease, Message
from celeriac.worker.awaiting import is_coroutine

logger = logging.getLogger(__name__)

#: When it started, hard limit, attempt, delivery, lost deliveries, expiry, the message's own max_attempts,
#: and the lengths of the five texts that follow: lease, id, task, head, body.
_HEADER = struct.Struct("<ddiiiqiIIIII")
_STARTED = struct.Struct("<d")
_FINISHED = struct.Struct("<q")
_BEAT = struct.Struct("<d")
_BEAT_AT = _HEADER.size + _FINISHED.size
_TAKEN = struct.Struct("<48s")
_TAKEN_AT = _BEAT_AT + _BEAT.size
_TEXTS_AT = _TAKEN_AT + _TAKEN.size
#: Memory is only used where it is written. A larger message leaves its head and body out.
_SIZE = _TEXTS_AT + 1_100_000


@dataclass(frozen=True, slots=True)
class Running:
    """What a child is running: enough for its parent to settle the message in its place."""

    started: float
    """Monotonic seconds, the same clock in parent and child."""
    hard_s: float
    """The hard limit in seconds; 0 when there is none."""
    max_attempts: int
    """The message's own limit of attempts; 0 when it has none."""
    message: Message
    """The message; its priority and times are not known here, nor its history."""


class Slot:
    """A piece of memory that a child writes and its parent reads."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _SIZE)
        self.beat()

    def beat(self) -> None:
        """Note that the child's threads get to run: it keeps its leases itself."""
        _BEAT.pack_into(self._page, _BEAT_AT, time.monotonic())

    @property
    def beaten(self) -> float:
        """When the child last said so, in monotonic seconds."""
        at: float = _BEAT.unpack_from(self._page, _BEAT_AT)[0]
        return at

    def write(self, message: Message, hard_s: float, max_attempts: int) -> None:
        """Note what starts running now."""
        texts = (
            message.lease.encode(),
            message.id.encode(),
            message.task.encode(),
            message.head,
            message.body,
        )
        blob = b"".join(texts)
        if len(blob) > _SIZE - _TEXTS_AT:
            texts = (*texts[:3], b"", b"")
            blob = b"".join(texts)
        page = self._page
        page[_TEXTS_AT : _TEXTS_AT + len(blob)] = blob
        _HEADER.pack_into(
            page,
            0,
            0.0,
            hard_s,
            message.attempt,
            message.delivery,
            message.lost,
            message.expires_ms,
            max_attempts,
            *map(len, texts),
        )
        # Last, since from here on the parent may believe the rest.
        _STARTED.pack_into(page, 0, time.monotonic())

    def clear(self) -> None:
        """Note that what ran has ended."""
        _STARTED.pack_into(self._page, 0, 0.0)
        _FINISHED.pack_into(self._page, _HEADER.size, self.finished + 1)

    def take_away(self, message: Message) -> bool:
        """Ask the parent to end this message's run, since its lease is somebody else's; True."""
        _TAKEN.pack_into(self._page, _TAKEN_AT, message.lease.encode())
        return True

    @property
    def taken(self) -> Lease:
        """The lease that was last said to be somebody else's; empty when none was."""
        raw: bytes = _TAKEN.unpack_from(self._page, _TAKEN_AT)[0]
        return raw.rstrip(b"\0").decode("ascii", "replace")

    @property
    def finished(self) -> int:
        """How many have ended."""
        count: int = _FINISHED.unpack_from(self._page, _HEADER.size)[0]
        return count

    def read(self) -> Running | None:
        """What runs; None when nothing does."""
        started, hard, attempt, delivery, lost, expires, most, *lengths = _HEADER.unpack_from(
            self._page
        )
        if not started:
            return None
        texts, at = [], _TEXTS_AT
        for length in lengths:
            texts.append(self._page[at : at + length])
            at += length
        lease, id_, task = (text.decode("utf-8", "replace") for text in texts[:3])
        message = Message(
            lease=lease,
            id=id_,
            task=task,
            body=texts[4],
            head=texts[3],
            priority="normal",
            enqueued_ms=0,
            ready_ms=0,
            attempt=attempt,
            delivery=delivery,
            lost=lost,
            expires_ms=expires,
            history=b"",
        )
        return Running(started, hard, most, message)


def limits_of(
    task: Any, request: dict[str, Any], *, soft_s: float, hard_s: float
) -> tuple[float, float]:
    """Soft and hard limit of one message, in seconds; 0 means none.

    The message's own come before the task's, and those before the queue's, which are given.
    """
    hard, soft = request.get("timelimit") or (None, None)
    return soft or task.soft_time_limit or soft_s, hard or task.time_limit or hard_s


def warn_of_limits(app: Celery, *, pool: str, soft_s: float, hard_s: float) -> None:
    """Say whose time limits a pool cannot keep: any on threads, only coroutines' on asyncio."""
    if pool == "prefork":
        return
    what, instead = "a task", "use Prefork to keep them"
    tasks = [task for name, task in app.tasks.items() if not name.startswith("celery.")]
    if pool == "asyncio":
        what, instead = "a plain def task", "use Prefork, or async def, to keep them"
        tasks = [task for task in tasks if not is_coroutine(task)]
    declared = _declared(tasks, soft_s=soft_s, hard_s=hard_s)
    if declared:
        text = "the %s pool cannot interrupt %s: the time limits of %s are not kept; %s"
        logger.warning(text, pool, what, declared, instead)


def _declared(tasks: list[Any], *, soft_s: float, hard_s: float) -> str:
    own = sorted(task.name for task in tasks if task.time_limit or task.soft_time_limit)
    who = ["the queue"] if tasks and (soft_s or hard_s) else []
    if own:
        more = f" and {len(own) - 3} more" if len(own) > 3 else ""
        who.append(f"task {', '.join(own[:3])}{more}")
    return " and ".join(who)


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
        """Enter with ``with``: the limits hold inside."""
        self._soft_now, hard_s = limits_of(task, request, soft_s=self._soft_s, hard_s=self._hard_s)
        self._slot.write(message, hard_s, max_attempts or 0)
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
            raise SoftTimeLimitExceeded
