"""Prefork: each child process claims, runs and settles by itself; the parent watches over them.

The parent keeps what a child cannot keep for itself: leases while user code holds the interpreter, hard
time limits, and the news of its death. Since it knows from the child's slot what was running, only that
message is charged when a child dies; the others go back free.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import random
from typing import Any

from billiard.exceptions import TimeLimitExceeded

from celeriac.broker.message import DeadLetter, Discard, Lease, Message, Outcome, Settlement
from celeriac.broker.queue import Queue
from celeriac.worker.consumer import Consumer
from celeriac.worker.failure import describe
from celeriac.worker.keeper import RENEWALS_PER_LEASE
from celeriac.worker.limits import Running, Slot
from celeriac.worker.outcome import decide
from celeriac.worker.pools.solo import LAST_SETTLE_S

logger = logging.getLogger(__name__)

TICK_S = 0.05
#: A child that lived longer than this is replaced at once; younger ones wait, doubling up to the longest.
YOUNG_S = 1.0
LONGEST_REST_S = 5.0
_PR_SET_PDEATHSIG = 1

#: Runs in a child: (consumer name, slot). Returns when the child is done.
ChildMain = Callable[[str, Slot], None]


@dataclass(slots=True)
class Child:
    """A child process and the slot it reports in."""

    pid: int
    name: str
    slot: Slot
    born: float = field(default_factory=time.monotonic)
    killed: tuple[Lease, Outcome] | None = None
    """The message that the parent killed it for, and what that message is settled as."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """What a dead child left: its consumer, what it is charged for, what to settle in its place."""

    consumer: str
    charged: list[Lease]
    settlement: Settlement | None


class Prefork:
    """Keeps ``concurrency`` children alive until the steward's consumer closes."""

    def __init__(
        self,
        steward: Consumer,
        *,
        concurrency: int,
        child_main: ChildMain,
        on_dead_letter: Callable[[Running, BaseException], None],
    ) -> None:
        self.steward = steward
        self.concurrency = concurrency
        self.children: dict[int, Child] = {}
        self.beat = time.monotonic()
        self._child_main = child_main
        self._on_dead_letter = on_dead_letter
        self._orphans: deque[Orphan] = deque()
        self._finished = threading.Event()
        self._attendant = threading.Thread(
            target=self._attend, name="celeriac-attendant", daemon=True
        )
        self._spawned = 0
        self._young_deaths = 0
        self._rest_until = 0.0
        self._stopping = False

    def run(self, *, grace_s: float) -> None:
        """Watch over children until the consumer closes, then drain them for ``grace_s`` seconds."""
        closing = self.steward.closing
        self._spawn_missing(time.monotonic())
        self._attendant.start()
        while not closing.is_set():
            now = self.beat = time.monotonic()
            self._reap()
            self._enforce_limits(now)
            self._spawn_missing(now)
            closing.wait(TICK_S)
        self._drain(grace_s)

    def terminate(self, message_id: str) -> bool:
        """Kill the child that runs a message, which is then discarded as revoked."""
        for child in self.children.values():
            running = child.slot.read()
            if running is not None and running.id == message_id:
                child.killed = running.lease, Discard("revoked")
                os.kill(child.pid, signal.SIGKILL)
                return True
        return False

    # --- life and death -------------------------------------------------------------------------

    def _spawn_missing(self, now: float) -> None:
        while len(self.children) < self.concurrency and now >= self._rest_until:
            self._spawned += 1
            child = Child(0, f"{self.steward.name}/{self._spawned}", Slot())
            sys.stdout.flush()
            sys.stderr.flush()
            parent = os.getpid()
            child.pid = os.fork()
            if child.pid == 0:
                self._be_child(child, parent)
            self.children[child.pid] = child

    def _be_child(self, child: Child, parent: int) -> None:
        status = 1
        try:
            _die_with(parent)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.children.clear()
            self._child_main(child.name, child.slot)
            status = 0
        except BaseException:
            logger.exception("worker child %s ended", child.name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        for child in list(self.children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self.children[pid]
                self._bury(child, status)

    def _bury(self, child: Child, status: int) -> None:
        running = child.slot.read()
        settlement: Settlement | None = None
        charged: list[Lease] = []
        if child.killed is not None:
            lease, outcome = child.killed
            # It may just have gone on to the next message, which is free of blame.
            if running is not None and running.lease == lease:
                run_ms = int((time.monotonic() - running.started) * 1000)
                settlement = Settlement(_message(running), outcome, run_ms)
        elif running is not None and not self._stopping:
            charged = [running.lease]
            logger.error(
                "%s[%s] took its process with it (%s)", running.task, running.id, _ending(status)
            )
        self._orphans.append(Orphan(child.name, charged, settlement))
        young = time.monotonic() - child.born < YOUNG_S
        self._young_deaths = self._young_deaths + 1 if young and status else 0
        if self._young_deaths > 2:
            rest = min(LONGEST_REST_S, 0.1 * 2**self._young_deaths)
            self._rest_until = time.monotonic() + rest

    # --- the attendant: a thread, so that a silent broker holds up no limit and no restart ----------

    def _attend(self) -> None:
        period = self.steward.queue.lease_ms / 1000 / RENEWALS_PER_LEASE
        look_at = 0.0
        while not self._finished.wait(TICK_S):
            self._return_orphans()
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + period
                self._look_after()

    def _return_orphans(self) -> None:
        queue = self.steward.queue
        while self._orphans:
            # Repeated whole after trouble: what was settled already is then refused by its lease.
            if self.steward.ask(partial(_take_over, queue, self._orphans[0])) is None:
                return
            self._orphans.popleft()

    def _look_after(self) -> None:
        self.steward.renew()
        self.steward.read_record()
        for child in list(self.children.values()):
            self.steward.ask(partial(self.steward.queue.renew, child.name, []))
        self.steward.reclaim()

    # --- what children cannot do for themselves -------------------------------------------------

    def _enforce_limits(self, now: float) -> None:
        for child in self.children.values():
            running = child.slot.read()
            if running is None or not running.hard_s or child.killed is not None:
                continue
            if now - running.started > running.hard_s:
                child.killed = running.lease, self._timed_out(running)
                os.kill(child.pid, signal.SIGKILL)

    def _timed_out(self, running: Running) -> Outcome:
        error: Any = TimeLimitExceeded(running.hard_s)
        logger.error(
            "%s[%s] passed its hard limit of %s s", running.task, running.id, running.hard_s
        )
        now_ms = time.time_ns() // 1_000_000
        failure = describe(
            error,
            reason="hard_time_limit",
            worker=self.steward.name,
            started_ms=now_ms - int((time.monotonic() - running.started) * 1000),
            ended_ms=now_ms,
        )
        outcome = decide(
            error=error,
            attempt=running.attempt + 1,
            policy=self.steward.policy().retry,
            failure=failure,
            max_attempts=running.max_attempts or None,
            random=random,
        )
        if isinstance(outcome, DeadLetter):
            self._on_dead_letter(running, error)
        return outcome

    # --- the end --------------------------------------------------------------------------------

    def _drain(self, grace_s: float) -> None:
        self._stopping = True
        for child in self.children.values():
            os.kill(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while self.children and time.monotonic() < deadline:
            self.beat = now = time.monotonic()
            self._reap()
            self._enforce_limits(now)
            time.sleep(TICK_S)
        self.stop_now()

    def stop_now(self) -> None:
        """Kill the children; what they ran goes back without a charge."""
        self._stopping = True
        for child in list(self.children.values()):
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            del self.children[child.pid]
            self._bury(child, 0)
        deadline = time.monotonic() + LAST_SETTLE_S
        while self._orphans and time.monotonic() < deadline:
            time.sleep(TICK_S)
        self._finished.set()
        self._attendant.join(timeout=LAST_SETTLE_S)
        self.steward.leave()


def _take_over(queue: Queue, orphan: Orphan) -> int:
    if orphan.settlement is not None:
        queue.settle([orphan.settlement])
    return queue.abandon(orphan.consumer, running=orphan.charged)


def _message(running: Running) -> Message:
    return Message(
        lease=running.lease,
        id=running.id,
        task=running.task,
        body=b"",
        head=b"",
        priority="normal",
        enqueued_ms=0,
        ready_ms=0,
        attempt=running.attempt,
        delivery=running.delivery,
        lost=0,
        expires_ms=0,
        history=b"",
    )


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.WEXITSTATUS(status)}"


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
