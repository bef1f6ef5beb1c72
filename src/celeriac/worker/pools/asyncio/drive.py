"""Runs one coroutine of a user's on the event loop, and interrupts it.

asyncio has one way to interrupt a coroutine, CancelledError. A soft time limit is another exception, which
the task may catch where it waits and go on; and a coroutine that swallows its cancellation must end all
the same. So the coroutine is resumed from here, between it and its asyncio task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from inspect import isawaitable, iscoroutine
from types import coroutine
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

logger = logging.getLogger(__name__)

#: How long a cancelled coroutine may take to clean up.
CLEANUP_S = 1.0


@dataclass(slots=True)
class Ended:
    """What became of a task's own code: the value it returned or the error it raised."""

    value: Any = None
    error: BaseException | None = None
    forced: bool = False
    """Whether it was ended from outside, with ``error`` as the reason."""


class Drive:
    """One coroutine on its way to the end, in an asyncio task of its own."""

    __slots__ = (
        "_closing",
        "_hard_s",
        "_loop",
        "_name",
        "_on_end",
        "_over",
        "_soft_s",
        "_soft_struck",
        "_start",
        "_task",
        "_timers",
        "_why",
    )

    def __init__(
        self,
        start: Callable[[], Any],
        on_end: Callable[[Ended], None],
        *,
        name: str,
        soft_s: float = 0,
        hard_s: float = 0,
    ) -> None:
        """``start`` makes the coroutine; ``on_end`` is told once, on the loop, what became of it.

        Limits are in seconds, 0 means none. ``name`` is for logs, and for asyncio's own.
        """
        self._start = start
        self._on_end = on_end
        self._name = name
        self._soft_s = soft_s
        self._hard_s = hard_s
        self._timers: list[asyncio.TimerHandle] = []
        self._soft_struck = False
        self._why: BaseException | None = None
        self._closing = False
        self._over = False

    def begin(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        """Start the coroutine soon, in a context of its own."""
        self._loop = loop
        self._task = loop.create_task(self._run(), name=self._name, context=context)
        self._task.add_done_callback(self._done)

    def cancel(self, why: BaseException) -> bool:
        """End the coroutine: whatever it does now, ``why`` became of it. False when it has ended."""
        if self._over or not self._task.cancel():
            return False
        if self._why is None:
            self._why = why
            self._later(CLEANUP_S, self._close)
        return True

    # --- inside the asyncio task ----------------------------------------------------------------

    async def _run(self) -> Ended:
        if self._soft_s:
            self._later(self._soft_s, self._strike_softly)
        if self._hard_s:
            self._later(self._hard_s, self._strike)
        try:
            made = self._start()
            if not iscoroutine(made):
                # A __call__ of the user's own may return a value, or something else to wait for.
                return Ended(await made if isawaitable(made) else made)
            return Ended(await self._steps(made))
        except GeneratorExit:
            raise
        except BaseException as error:
            return Ended(error=error)

    @coroutine
    def _steps(self, inner: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        step: Callable[[Any], Any] = inner.send
        argument: Any = None
        while True:
            try:
                waits_for = step(argument)
            except StopIteration as stop:
                return stop.value
            try:
                argument = yield waits_for
                step = inner.send
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:
                step, argument = inner.throw, self._translated(error)
            if self._closing:
                with suppress(RuntimeError):  # it swallows even that, and is left where it is
                    inner.close()
                raise asyncio.CancelledError

    def _translated(self, error: BaseException) -> BaseException:
        struck, self._soft_struck = self._soft_struck, False
        if struck and self._why is None and isinstance(error, asyncio.CancelledError):
            # For asyncio.timeout() and TaskGroup this was no cancellation.
            self._task.uncancel()
            error = SoftTimeLimitExceeded()
        return error

    # --- limits and the end ---------------------------------------------------------------------

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay_s, call))

    def _strike_softly(self) -> None:
        if self._why is None and self._task.cancel():
            self._soft_struck = True

    def _strike(self) -> None:
        if self.cancel(TimeLimitExceeded(self._hard_s)):
            logger.error("%s passed its hard limit of %s s", self._name, self._hard_s)

    def _close(self) -> None:
        if not self._closing:
            logger.error(
                "%s swallows its cancellation: it has had %s s to clean up and is closed where it waits",
                self._name,
                CLEANUP_S,
            )
            self._closing = True
            self._task.cancel()
            self._later(CLEANUP_S, self._close)
            return
        # It waits for a task that takes no notice either, and could only be left alone with it.
        logger.error(
            "%s waits for something that swallows its cancellation: left behind", self._name
        )
        self._end(Ended())

    def _done(self, task: asyncio.Task[Ended]) -> None:
        if not self._over:
            self._end(Ended(error=asyncio.CancelledError()) if task.cancelled() else task.result())

    def _end(self, ended: Ended) -> None:
        self._over = True
        for timer in self._timers:
            timer.cancel()
        if self._why is not None:
            self._why.__cause__ = ended.error  # it tells where the coroutine was
            ended = Ended(error=self._why, forced=True)
        on_end = self._on_end
        del self._on_end, self._start  # they know who knows this: no work for the garbage collector
        on_end(ended)
