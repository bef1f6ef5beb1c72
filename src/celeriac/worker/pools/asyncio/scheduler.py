"""Starts and ends attempts on the event loop.

The loop never waits for the broker, for a result backend or for plain functions. Beside it there are a thread
that claims, one that settles, a few that run the parts of an attempt which may block (hooks, receivers of
signals, results, callbacks), and one for each plain ``def`` task that runs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty
from typing import Any, TypeVar

from billiard.exceptions import Terminated

from celeriac.broker.message import Lease, Message, Settlement
from celeriac.worker.consumer import Consumer
from celeriac.worker.pools.asyncio.drive import CLEANUP_S, Drive, Ended
from celeriac.worker.pools.asyncio.runner import CoroutineRunner, Live
from celeriac.worker.pools.base import close, keep_claiming
from celeriac.worker.settler import SETTLE_AFTER_S

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Messages started in one go; then the loop has a look at everybody else.
BATCH = 32
#: Threads for the parts of attempts that may block.
HELPERS = 16


class Scheduler:
    """Runs up to ``concurrency`` messages at once until the consumer closes."""

    def __init__(self, consumer: Consumer, runner: CoroutineRunner, *, concurrency: int) -> None:
        self._consumer = consumer
        self._runner = runner
        self._slots = concurrency
        self._loop = runner.loop
        self._live: dict[Lease, Live] = {}
        self._helpers = ThreadPoolExecutor(HELPERS, "celeriac-helper")
        self._threads = ThreadPoolExecutor(concurrency, "celeriac-slot")
        self._to_settle = threading.Event()
        self._settling_is_planned = False
        self._draining = False
        self._drained = False
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Run messages until the consumer closes and those that run have ended."""
        asyncio.set_event_loop(self._loop)
        threads = [
            self._thread(self._claim, "celeriac-claim"),
            self._thread(self._settle, "celeriac-settle"),
        ]
        while not self._drained:
            self._run_loop(self._loop.run_forever)
            if self._failure is not None:
                raise self._failure
        self._to_settle.set()
        for thread in threads:
            thread.join()
        close(self._consumer)
        self._wind_up()

    def _run_loop(self, run: Callable[[], object]) -> None:
        try:
            run()
        except (SystemExit, KeyboardInterrupt) as error:
            # asyncio lets these through, from tasks that a task of the app has started.
            logger.error("a background task ended with %r", error)

    def _wind_up(self) -> None:
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            ended = asyncio.wait(left, timeout=CLEANUP_S)
            self._run_loop(partial(self._loop.run_until_complete, ended))
        self._run_loop(partial(self._loop.run_until_complete, self._loop.shutdown_asyncgens()))
        self._helpers.shutdown()
        self._threads.shutdown()
        self._loop.close()

    def terminate(self, message_id: str) -> bool:
        """Cancel the coroutine of a message, which is then discarded as revoked. From any thread."""
        for live in list(self._live.values()):
            if live.message.id == message_id:
                self._call(self._revoke, live)
                return True
        return False

    def stop_taken(self, message: Message) -> bool:
        """Cancel the coroutine of a message that is somebody else's; False when it is none."""
        live = self._live.get(message.lease)
        if live is not None:
            self._call(self._let_go, live)
        return live is not None

    # --- other threads --------------------------------------------------------------------------

    def _thread(self, body: Callable[[], None], name: str) -> threading.Thread:
        def run() -> None:
            try:
                body()
            except BaseException as error:
                self._failure = error
                self._call(self._loop.stop)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def _claim(self) -> None:
        keep_claiming(self._consumer, partial(self._call, self._take))
        self._consumer.give_back()
        self._call(self._drain)

    def _settle(self) -> None:
        while not self._drained:
            self._to_settle.wait()
            self._to_settle.clear()
            self._consumer.settler.settle()

    def _renew(self) -> None:
        self._consumer.renew()
        self._call(self._take)

    def _aside(
        self,
        threads: ThreadPoolExecutor,
        message: Message,
        work: Callable[[], T],
        then: Callable[[T], None],
    ) -> None:
        """Let a thread do what may block, and go on with its answer on the loop."""

        def run() -> None:
            try:
                answer = work()
            except BaseException:
                logger.exception(
                    "%s[%s]: it runs again when its lease ends", message.task, message.id
                )
                self._call(self._drop, message)
            else:
                self._call(then, answer)

        threads.submit(run)

    def _drop(self, message: Message) -> None:
        self._live.pop(message.lease, None)
        self._consumer.inflight.running.pop(message.lease, None)
        self._go_on()

    def _call(self, call: Callable[..., object], *args: Any) -> None:
        self._loop.call_soon_threadsafe(call, *args)

    # --- the loop: beginning --------------------------------------------------------------------

    def _take(self) -> None:
        consumer = self._consumer
        running, waiting = consumer.inflight.running, consumer.inflight.waiting
        for _ in range(BATCH):
            if consumer.closing.is_set() or len(running) >= self._slots:
                return
            if consumer.stale and not waiting.empty():
                self._helpers.submit(self._renew)
                return
            try:
                message = waiting.get_nowait()
            except Empty:
                return
            if message is not None and consumer.begin(message):
                self._start(message)
        self._loop.call_soon(self._take)

    def _start(self, message: Message) -> None:
        runner = self._runner
        live = runner.live(message)
        if live is None:
            self._aside(self._threads, message, partial(runner.run, message), self._finish)
            return
        self._live[message.lease] = live
        if runner.begins_quickly(live):
            self._launch(live, runner.begin(live))
        else:
            begin, launch = partial(runner.begin, live), partial(self._launch, live)
            self._aside(self._helpers, message, begin, launch)

    def _launch(self, live: Live, ended: Ended | None) -> None:
        if live.revoked or live.taken or ended is not None:
            self._loop.call_soon(self._end, live, ended or Ended())
            return
        message = live.message
        live.drive = Drive(
            partial(self._runner.call, live),
            partial(self._end, live),
            name=f"{message.task}[{message.id}]",
            soft_s=live.soft_s,
            hard_s=live.hard_s,
        )
        live.drive.begin(self._loop, live.context)

    # --- the loop: ending -----------------------------------------------------------------------

    def _revoke(self, live: Live) -> None:
        live.revoked = self._cancel(live, "revoked") or live.revoked

    def _let_go(self, live: Live) -> None:
        live.taken = self._cancel(live, "taken away") or live.taken

    def _cancel(self, live: Live, why: str) -> bool:
        known = live.message.lease in self._live
        return known and (live.drive is None or live.drive.cancel(Terminated(why)))

    def _end(self, live: Live, ended: Ended) -> None:
        runner = self._runner
        settlement = runner.end_quickly(live, ended)
        if settlement is not None:
            self._finish(settlement)
        else:
            end = partial(runner.end, live, ended)
            self._aside(self._helpers, live.message, end, self._finish)

    def _finish(self, settlement: Settlement) -> None:
        consumer = self._consumer
        self._live.pop(settlement.message.lease, None)
        due = consumer.note_end(settlement)
        if due or not consumer.inflight.running:
            self._to_settle.set()
        elif not self._settling_is_planned:
            self._settling_is_planned = True
            self._loop.call_later(SETTLE_AFTER_S, self._settle_now)
        self._go_on()

    def _go_on(self) -> None:
        self._take()
        if self._draining and not self._consumer.inflight.running:
            self._stop()

    def _settle_now(self) -> None:
        self._settling_is_planned = False
        self._to_settle.set()

    def _drain(self) -> None:
        self._draining = True
        if not self._consumer.inflight.running:
            self._stop()

    def _stop(self) -> None:
        self._drained = True
        self._loop.stop()
