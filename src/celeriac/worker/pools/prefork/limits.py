"""Time limits in a child.

The soft limit raises SoftTimeLimitExceeded inside the task, from an interval timer of the child itself.
The hard limit is the parent's: on the child's scoreboard it sees since when what runs, and kills the child.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from celeriac.broker.message import Message
from celeriac.worker.limits import limits_of
from celeriac.worker.pools.prefork.scoreboard import Scoreboard


class TimeLimits:
    """Keeps the limits of one child's messages: one at a time, in its main thread."""

    def __init__(self, scoreboard: Scoreboard, *, soft_s: float = 0, hard_s: float = 0) -> None:
        self._scoreboard = scoreboard
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
        self._scoreboard.write(message, hard_s, max_attempts or 0)
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
        self._scoreboard.clear()

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        # The timer may fire just as the task ends; then there is nobody to interrupt.
        if self._inside:
            raise SoftTimeLimitExceeded
