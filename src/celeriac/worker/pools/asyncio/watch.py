"""Notices from outside when a task holds up the event loop, and says which and where.

Nothing else runs meanwhile, and no time limit can be kept: the task should await, or be a plain ``def``.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from contextlib import suppress

logger = logging.getLogger(__name__)

_ASK_EVERY_S = 0.25
#: Held up for longer, the loop's guest is named in the log.
BLOCKED_S = 1.0
_FRAMES = 3


class LoopWatch:
    """Asks a loop, which runs in the main thread, for a sign of life."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.beat = time.monotonic()
        self._loop = loop
        self._asked = 0.0
        self._waits = False
        self._warned = False

    def tick(self) -> None:
        """Look at the loop; to be called often, by another thread."""
        now = time.monotonic()
        if not self._waits:
            if now - self._asked > _ASK_EVERY_S and self._loop.is_running():
                self._asked, self._waits, self._warned = now, True, False
                with suppress(RuntimeError):  # it has just been closed
                    self._loop.call_soon_threadsafe(self._answer)
        elif now - self._asked > BLOCKED_S and not self._warned:
            self._warned = True
            self._tell(now - self._asked)

    def _answer(self) -> None:
        self.beat = time.monotonic()
        if self._warned:
            logger.warning("the event loop goes on, after %.1f s", self.beat - self._asked)
        self._waits = False

    def _tell(self, blocked_s: float) -> None:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        stack = traceback.format_stack(frame, limit=_FRAMES) if frame else []
        logger.warning(
            "%s holds up the event loop, for %.1f s by now, and all other tasks with it; "
            "it should await, or be a plain def\n%s",
            task.get_name() if task is not None else "a callback",
            blocked_s,
            "".join(stack).rstrip(),
        )
