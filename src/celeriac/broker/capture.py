"""A message that is published from inside a running attempt may belong to that attempt.

`task.retry()` publishes the task's own message again. Published as it stands, a crash between that and the
end of the attempt would run the message twice or, the other way round, never again. So a publisher first
offers every task message to the running attempt, which may take it and settle it together with itself.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from celeriac.broker.message import NewMessage


class Capture(Protocol):
    """Somebody who may take a message instead of the queue."""

    def offer(self, queue_name: str, message: NewMessage) -> bool:
        """Take the message (True: it must not be published), or leave it to the queue."""


current: ContextVar[Capture | None] = ContextVar("celeriac_capture", default=None)
"""Who is asked, in this thread or task; None: everything is published."""
