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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import random
from typing import Any

from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError

from celeriac.broker.message import Discard, Lease, Outcome, Settlement
from celeriac.worker.consumer import Consumer
from celeriac.worker.failure import describe
from celeriac.worker.forking import Forker
from celeriac.worker.keeper import POLICY_S, RENEWALS_PER_LEASE
from celeriac.worker.limits import Running, Slot
from celeriac.worker.outcome import decide
from celeriac.worker.pools.orphans import OnEnded, Orphan, Orphans
from celeriac.worker.pools.solo import LAST_SETTLE_S

logger = logging.getLogger(__name__)

TICK_S = 0.05
#: A child that is silent for longer than this cannot renew its leases itself.
SILENT_S = 0.2
#: A child that lived longer than this is replaced at once; younger ones wait, doubling up to the longest.
YOUNG_S = 1.0
LONGEST_REST_S = 5.0
_PR_SET_PDEATHSIG = 1
_SIGNALS = {signal.SIGTERM, signal.SIGINT}

#: Runs in a child: (consumer name, slot). Returns when the child is done.
ChildMain = Callable[[str, Slot], None]


@dataclass(slots=True)
class Child:
    """A child process and the slot it reports in."""

    pid: int
    name: str
    slot: Slot
    born: float = field(default_factory=time.monotonic)
    killed: Verdict | None = None
    """Why the parent killed it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The message that a child is killed for, what that message is settled as, and the reason.

    Without an outcome the message is somebody else's by now, and nothing is settled or told.
    """

    lease: Lease
    outcome: Outcome | None = None
    error: Exception | None = None


class Prefork:
    """Keeps ``concurrency`` children alive until the steward's consumer closes."""

    def __init__(
        self,
        steward: Consumer,
        *,
        concurrency: int,
        child_main: ChildMain,
        on_ended: OnEnded,
        parent: int = 0,
    ) -> None:
        self.steward = steward
        self._parent = parent
        self.concurrency = concurrency
        self.children: dict[int, Child] = {}
        self.beat = time.monotonic()
        self._child_main = child_main
        self._orphans = Orphans(steward, on_ended=on_ended)
        self._finished_before = 0
        self._finished = threading.Event()
        self._attendant = threading.Thread(
            target=self._attend, name="celeriac-attendant", daemon=True
        )
        self._forker = Forker()
        self._spawned = 0
        self._young_deaths = 0
        self._rest_until = 0.0
        self._stopping = False

    def run(self, *, grace_s: float, started: Callable[[], None]) -> None:
        """Watch over children until the consumer closes, then drain them for ``grace_s`` seconds.

        ``started`` is called once the children are there: the place to start threads.
        """
        closing = self.steward.closing
        self._spawn_missing(time.monotonic())
        self._attendant.start()
        started()
        while not closing.is_set():
            now = self.beat = time.monotonic()
            self._reap()
            self._enforce_limits(now)
            self._spawn_missing(now)
            closing.wait(TICK_S)
        self._drain(grace_s)

    def terminate(self, message_id: str) -> bool:
        """Kill the child that runs a message, which is then discarded as revoked."""
        for child in list(self.children.values()):
            running = child.slot.read()
            if running is not None and running.message.id == message_id:
                error = Terminated("revoked")
                child.killed = Verdict(running.message.lease, Discard("revoked"), error)
                _kill(child)
                return True
        return False

    def kill_all(self) -> None:
        """Kill the children, in the midst of whatever they run. For signal handlers too."""
        for child in list(self.children.values()):
            _kill(child)

    @property
    def finished(self) -> int:
        """Messages that children have run to the end."""
        return self._finished_before + sum(
            child.slot.finished for child in list(self.children.values())
        )

    # --- life and death -------------------------------------------------------------------------

    def _spawn_missing(self, now: float) -> None:
        while len(self.children) < self.concurrency and now >= self._rest_until:
            child = Child(0, f"{self.steward.name}/{self._spawned + 1}", Slot())
            sys.stdout.flush()
            sys.stderr.flush()
            parent = os.getpid()
            # The child must not answer a signal as if it were its parent.
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            pid = self._forker.fork()
            if pid == 0:
                self._be_child(child, parent)
            elif pid is not None:
                child.pid = pid
                self.children[pid] = child
                self._spawned += 1
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            if pid is None:
                return

    def _be_child(self, child: Child, parent: int) -> None:
        status = 1
        try:
            _die_with(parent)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
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
        # A message that kills has its deliveries counted, and must not keep its neighbours waiting too.
        began = running is not None or child.slot.finished > 0
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
        self._finished_before += child.slot.finished
        self._orphans.append(Orphan(child.name, running, settlement, error))
        young = time.monotonic() - child.born < YOUNG_S
        self._young_deaths = self._young_deaths + 1 if young and status and not began else 0
        if self._young_deaths > 2:
            rest = min(LONGEST_REST_S, 0.1 * 2**self._young_deaths)
            self._rest_until = time.monotonic() + rest

    # --- the attendant: a thread, so that a silent broker holds up no limit and no restart ----------

    def _attend(self) -> None:
        period = self.steward.queue.lease_ms / 1000 / RENEWALS_PER_LEASE
        look_at = policy_at = 0.0
        while not self._finished.wait(TICK_S):
            self._orphans.take_back()
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + period
                self._look_after()
            if time.monotonic() >= policy_at:
                policy_at = time.monotonic() + POLICY_S
                self.steward.read_record()

    def _look_after(self) -> None:
        queue = self.steward.queue
        self.steward.link.ask(partial(queue.renew, self.steward.name, []))
        for child in list(self.children.values()):
            # Only for a child whose threads cannot run: it alone knows what it holds, and to renew more
            # would keep for ever what an answer that got lost had handed out to it.
            if time.monotonic() - child.slot.beaten > SILENT_S:
                self.steward.link.ask(partial(queue.renew, child.name, []))
                self._look_for_taken(child)
        self.steward.reclaim()
        if self._parent and os.getppid() != self._parent:
            logger.warning("the process that started this worker is gone: draining")
            self.steward.closing.set()

    def _look_for_taken(self, child: Child) -> None:
        running = child.slot.read()
        if running is not None:
            lease = running.message.lease
            if self.steward.link.ask(partial(self.steward.queue.renew, child.name, [lease])):
                child.slot.take_away(running.message)

    # --- what children cannot do for themselves -------------------------------------------------

    def _enforce_limits(self, now: float) -> None:
        for child in self.children.values():
            running = child.slot.read()
            if running is None or child.killed is not None:
                continue
            message = running.message
            if child.slot.taken == message.lease:
                logger.warning("%s[%s] is ended: its lease is lost", message.task, message.id)
                child.killed = Verdict(message.lease)
                _kill(child)
            elif running.hard_s and now - running.started > running.hard_s:
                child.killed = self._timed_out(running)
                _kill(child)

    def _timed_out(self, running: Running) -> Verdict:
        message = running.message
        error: Any = TimeLimitExceeded(running.hard_s)
        logger.error(
            "%s[%s] passed its hard limit of %s s", message.task, message.id, running.hard_s
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
            attempt=message.attempt + 1,
            policy=self.steward.policy().retry,
            failure=failure,
            max_attempts=running.max_attempts or None,
            random=random,
        )
        return Verdict(message.lease, outcome, error)

    # --- the end --------------------------------------------------------------------------------

    def _drain(self, grace_s: float) -> None:
        self._stopping = True
        for child in self.children.values():
            _kill(child, signal.SIGTERM)
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
            _kill(child)
            os.waitpid(child.pid, 0)
            del self.children[child.pid]
            self._bury(child, 0)
        self._orphans.wait(LAST_SETTLE_S)
        self._finished.set()
        self._attendant.join(timeout=LAST_SETTLE_S)
        self.steward.leave()


def _kill(child: Child, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):  # it has just ended by itself
        os.kill(child.pid, number)


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.WEXITSTATUS(status)}"


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
