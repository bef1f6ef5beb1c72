"""What a child process is doing, in memory that it shares with its parent.

The parent reads since when what runs, and kills a child whose message is past its hard limit. The board holds
the whole message, so that the parent can say what became of it, also when the child is dead.
"""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass

from celeriac.broker.message import Lease, Message

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


class Scoreboard:
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

    def stop_taken(self, message: Message) -> bool:
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
