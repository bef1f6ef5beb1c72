"""The parent of a Prefork pool's children.

It keeps what a child cannot keep for itself: leases while user code holds the interpreter, hard
time limits, and the news of its death. Since it knows from the child's scoreboard what was running, only that
message is charged when a child dies; the others go back free.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from random import random
from typing import Any

from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError

from celeriac.broker.message import Discard, Message, Settlement
from celeriac.worker.context import WorkerContext
from celeriac.worker.failure import describe
from celeriac.worker.housekeeper import POLICY_S, RENEWALS_PER_LEASE
from celeriac.worker.outcome import decide
from celeriac.worker.pools.base import LAST_SETTLE_S, Pool
from celeriac.worker.pools.prefork.child import SIGNALS, Child, Kill, be_child
from celeriac.worker.pools.prefork.forking import Forker
from celeriac.worker.pools.prefork.orphans import Orphan, Orphans
from celeriac.worker.pools.prefork.scoreboard import Running, Scoreboard

logger = logging.getLogger(__name__)

TICK_S = 0.05
#: A child that is silent for longer than this cannot renew its leases itself.
SILENT_S = 0.2
#: A child that lived longer than this is replaced at once; younger ones wait, doubling up to the longest.
YOUNG_S = 1.0
LONGEST_REST_S = 5.0


class Prefork(Pool):
    """Keeps ``concurrency`` children alive until its consumer closes, which itself runs nothing."""

    celerys = "prefork"

    def __init__(self, context: WorkerContext) -> None:
        super().__init__(context)
        self._concurrency = context.options.concurrency
        self._children: dict[int, Child] = {}
        self._beat = time.monotonic()
        self._forker = Forker()
        self._orphans = Orphans(self.consumer, on_ended=context.lost, quiet=self.quiet)
        self._finished_before = 0
        self._over = threading.Event()
        self._attendant = threading.Thread(
            target=self._attend, name="celeriac-attendant", daemon=True
        )
        self._spawned = 0
        self._young_deaths = 0
        self._rest_until = 0.0
        self._stopping = False

    @classmethod
    def interrupts(cls, task: Any) -> bool:
        return True

    def run(self, started: Callable[[], None]) -> None:
        closing = self.consumer.closing
        self._spawn_missing(time.monotonic())
        self._attendant.start()
        started()
        while not closing.is_set():
            now = self._beat = time.monotonic()
            self._reap()
            self._enforce_limits(now)
            self._spawn_missing(now)
            closing.wait(TICK_S)
        self._drain(self.context.options.drain_s)

    def stop_at_once(self) -> None:
        for child in list(self._children.values()):
            child.kill()

    @property
    def slots(self) -> int:
        return 0

    @property
    def quiet(self) -> AbstractContextManager[Any]:
        return self._forker.quiet

    @property
    def beat(self) -> float:
        return self._beat

    @property
    def finished(self) -> int:
        children = list(self._children.values())
        return self._finished_before + sum(child.scoreboard.finished for child in children)

    def running(self) -> list[Message]:
        boards = [child.scoreboard.read() for child in list(self._children.values())]
        return [running.message for running in boards if running is not None]

    def stats(self) -> dict[str, Any]:
        return {"processes": list(self._children)}

    def terminate(self, message_id: str) -> bool:
        for child in list(self._children.values()):
            running = child.scoreboard.read()
            if running is not None and running.message.id == message_id:
                error = Terminated("revoked")
                child.killed = Kill(running.message.lease, Discard("revoked"), error)
                child.kill()
                return True
        return False

    # --- life and death -------------------------------------------------------------------------

    def _spawn_missing(self, now: float) -> None:
        while len(self._children) < self._concurrency and now >= self._rest_until:
            child = Child(0, f"{self.consumer.name}/{self._spawned + 1}", Scoreboard())
            sys.stdout.flush()
            sys.stderr.flush()
            parent = os.getpid()
            # The child must not answer a signal as if it were its parent.
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            pid = self._forker.fork()
            if pid == 0:
                self._children.clear()
                be_child(self.context, child, parent)
            elif pid is not None:
                child.pid = pid
                self._children[pid] = child
                self._spawned += 1
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            if pid is None:
                return

    def _reap(self) -> None:
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self._children[pid]
                self._bury(child, status)

    def _bury(self, child: Child, status: int) -> None:
        running = child.scoreboard.read()
        # A message that kills has its deliveries counted, and must not keep its neighbours waiting too.
        began = running is not None or child.scoreboard.finished > 0
        settlement: Settlement | None = None
        error: Exception | None = None
        if child.killed is not None:
            # It may just have gone on to the next message, which is free of blame.
            lease, outcome = child.killed.lease, child.killed.outcome
            if running is not None and running.message.lease == lease and outcome is not None:
                run_ms = int((time.monotonic() - running.started) * 1000)
                settlement = Settlement(running.message, outcome, run_ms)
                error = child.killed.error
            else:
                running = None
        elif self._stopping:
            running = None
        elif running is not None:
            error = WorkerLostError(f"Worker exited prematurely: {_ending(status)}.")
            logger.error(
                "%s[%s] took its process with it (%s)",
                running.message.task,
                running.message.id,
                _ending(status),
            )
        self._finished_before += child.scoreboard.finished
        self._orphans.append(Orphan(child.name, running, settlement, error))
        young = time.monotonic() - child.born < YOUNG_S
        self._young_deaths = self._young_deaths + 1 if young and status and not began else 0
        if self._young_deaths > 2:
            rest = min(LONGEST_REST_S, 0.1 * 2**self._young_deaths)
            self._rest_until = time.monotonic() + rest

    # --- the attendant: a thread, so that a silent broker holds up no limit and no restart ----------

    def _attend(self) -> None:
        period = self.consumer.queue.lease_ms / 1000 / RENEWALS_PER_LEASE
        look_at = policy_at = 0.0
        while not self._over.wait(TICK_S):
            self._orphans.take_back()
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + period
                self._look_after()
            if time.monotonic() >= policy_at:
                policy_at = time.monotonic() + POLICY_S
                self.consumer.read_record()

    def _look_after(self) -> None:
        queue = self.consumer.queue
        self.consumer.link.ask(partial(queue.renew, self.consumer.name, []))
        for child in list(self._children.values()):
            # Only for a child whose threads cannot run: it alone knows what it holds, and to renew more
            # would keep for ever what an answer that got lost had handed out to it.
            if time.monotonic() - child.scoreboard.beaten > SILENT_S:
                self.consumer.link.ask(partial(queue.renew, child.name, []))
                self._look_for_taken(child)
        self.consumer.reclaim()
        if self.context.parent and os.getppid() != self.context.parent:
            logger.warning("the process that started this worker is gone: draining")
            self.consumer.closing.set()

    def _look_for_taken(self, child: Child) -> None:
        running = child.scoreboard.read()
        if running is not None:
            lease = running.message.lease
            if self.consumer.link.ask(partial(self.consumer.queue.renew, child.name, [lease])):
                child.scoreboard.stop_taken(running.message)

    # --- what children cannot do for themselves -------------------------------------------------

    def _enforce_limits(self, now: float) -> None:
        for child in self._children.values():
            running = child.scoreboard.read()
            if running is None or child.killed is not None:
                continue
            message = running.message
            if child.scoreboard.taken == message.lease:
                logger.warning("%s[%s] is ended: its lease is lost", message.task, message.id)
                child.killed = Kill(message.lease)
                child.kill()
            elif running.hard_s and now - running.started > running.hard_s:
                child.killed = self._timed_out(running)
                child.kill()

    def _timed_out(self, running: Running) -> Kill:
        message = running.message
        error: Any = TimeLimitExceeded(running.hard_s)
        logger.error(
            "%s[%s] passed its hard limit of %s s", message.task, message.id, running.hard_s
        )
        now_ms = time.time_ns() // 1_000_000
        failure = describe(
            error,
            reason="hard_time_limit",
            worker=self.consumer.name,
            started_ms=now_ms - int((time.monotonic() - running.started) * 1000),
            ended_ms=now_ms,
        )
        outcome = decide(
            error=error,
            attempt=message.attempt + 1,
            policy=self.consumer.policy().retry,
            failure=failure,
            max_attempts=running.max_attempts or None,
            random=random,
        )
        return Kill(message.lease, outcome, error)

    # --- the end --------------------------------------------------------------------------------

    def _drain(self, grace_s: float) -> None:
        self._stopping = True
        for child in self._children.values():
            child.kill(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while self._children and time.monotonic() < deadline:
            self._beat = now = time.monotonic()
            self._reap()
            self._enforce_limits(now)
            time.sleep(TICK_S)
        self._end()

    def _end(self) -> None:
        """Kill the children; what they ran goes back without a charge."""
        for child in list(self._children.values()):
            child.kill()
            os.waitpid(child.pid, 0)
            del self._children[child.pid]
            self._bury(child, 0)
        self._orphans.wait(LAST_SETTLE_S)
        self._over.set()
        self._attendant.join(timeout=LAST_SETTLE_S)
        self.consumer.leave()


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.WEXITSTATUS(status)}"
