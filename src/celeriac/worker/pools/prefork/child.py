"""A child process of the Prefork pool, from its fork to its end, and what its parent knows of it."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from billiard import util as billiard_util
from celery import signals

from celeriac.broker.message import Lease, Outcome
from celeriac.worker.consumer import Consumer
from celeriac.worker.context import WorkerContext
from celeriac.worker.housekeeper import Housekeeper
from celeriac.worker.pools.prefork.limits import TimeLimits
from celeriac.worker.pools.prefork.scoreboard import Scoreboard
from celeriac.worker.pools.solo import run_solo
from celeriac.worker.runner import AttemptRunner

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
#: Those that mean the worker: a child must not answer them as if it were its parent.
SIGNALS = {signal.SIGTERM, signal.SIGINT}


@dataclass(frozen=True, slots=True)
class Kill:
    """The message that a child is killed for, what that message is settled as, and the reason.

    Without an outcome the message is somebody else's by now, and nothing is settled or told.
    """

    lease: Lease
    outcome: Outcome | None = None
    error: Exception | None = None


@dataclass(slots=True)
class Child:
    """A child process and the scoreboard on which it reports."""

    pid: int
    name: str
    scoreboard: Scoreboard
    born: float = field(default_factory=time.monotonic)
    killed: Kill | None = None
    """Why the parent killed it."""

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal. For signal handlers too."""
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(self.pid, number)


def be_child(context: WorkerContext, child: Child, parent: int) -> NoReturn:
    """Run messages, in a process that has just been forked, until told to stop; then end the process."""
    status = 1
    try:
        _die_with(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        _run(context, child.name, child.scoreboard)
        status = 0
    except BaseException:
        logger.exception("worker child %s ended", child.name)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(context: WorkerContext, name: str, scoreboard: Scoreboard) -> None:
    billiard_util._run_after_forkers()
    consumer = context.child_consumer(name)
    consumer.inflight.stop_taken = scoreboard.stop_taken
    housekeeper = Housekeeper(consumer, parent=os.getppid(), on_tick=scoreboard.beat)

    def drain(number: int, frame: FrameType | None) -> None:
        consumer.closing.set()
        housekeeper.close_by(time.monotonic() + context.options.drain_s)

    signal.signal(signal.SIGTERM, drain)
    signals.worker_process_init.send(sender=None)
    soft_s, hard_s = context.limits()
    limits = TimeLimits(scoreboard, soft_s=soft_s, hard_s=hard_s)
    housekeeper.start()
    runner = context.runner(AttemptRunner, consumer, limits=limits)
    run_solo(consumer, runner, enough=_enough(context, consumer))
    housekeeper.stop()
    signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=0)


def _enough(context: WorkerContext, consumer: Consumer) -> Callable[[], bool] | None:
    """Whether a child has run so many messages, or grown so large, that another is to take its place."""
    conf = context.app.conf
    most, largest_kib = conf.worker_max_tasks_per_child, conf.worker_max_memory_per_child
    if not most and not largest_kib:
        return None

    def enough() -> bool:
        if most and consumer.settler.count >= most:
            return True
        grown_kib = _largest_kib()
        if largest_kib and grown_kib > largest_kib:
            text = "%s has grown to %d KiB (worker_max_memory_per_child is %d): another takes its place"
            logger.warning(text, consumer.name, grown_kib, largest_kib)
            return True
        return False

    return enough


def _largest_kib() -> int:
    """The most memory that this process ever had, in KiB, as Celery's own pool measures it."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest // 1024 if sys.platform == "darwin" else largest


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
