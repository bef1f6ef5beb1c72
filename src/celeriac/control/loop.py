"""The loop: once a second every queue is observed, planned for, acted on and reported.

    source -> keepers (one for each queue) -> statuses
                 |            |
              broker       backend

One queue's trouble is never another's: whatever goes wrong in a round is told, and the next comes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from celeriac.backend.base import Backend
from celeriac.control.broker import Broker
from celeriac.control.clock import Clock, SystemClock
from celeriac.control.keeper import Keeper
from celeriac.control.scale import ScaleDecision
from celeriac.control.source import Source
from celeriac.spec.queue import MessageQueue
from celeriac.spec.status import MessageQueueStatus

logger = logging.getLogger(__name__)

#: How often a drain is looked at: nobody likes to wait for a prompt.
_DRAIN_STEP_S = 0.1

Report = Callable[[Mapping[str, MessageQueueStatus]], None]


class Loop:
    """Looks after all queues of a source until stopped.

    ``report`` is called after every round with the status of every queue, by name on the broker.
    ``outside_autoscaler`` says whether the modes KEDA and HPA mean something here.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        broker: Broker,
        source: Source,
        interval_s: float = 1.0,
        report: Report | None = None,
        clock: Clock | None = None,
        outside_autoscaler: bool = False,
    ) -> None:
        self._backend = backend
        self._broker = broker
        self._source = source
        self._interval_s = interval_s
        self._report = report
        self._clock = clock or SystemClock()
        self._outside_autoscaler = outside_autoscaler
        self._keepers: dict[str, Keeper] = {}
        self._leaving: dict[str, Keeper] = {}
        self._stop = threading.Event()
        self._hurry = threading.Event()

    # --- from outside ---------------------------------------------------------------------------

    def run(self) -> None:
        """Go on until :meth:`stop`, then drain all workers and return.

        Call it in a thread that lives as long as the process: children are tied to it.
        """
        while not self._stop.is_set():
            started = self._clock.seconds()
            self.round()
            self._stop.wait(max(0.0, self._interval_s - (self._clock.seconds() - started)))
        self._drain()

    def stop(self) -> None:
        """End :meth:`run` after a drain of all workers. May be called from a signal handler."""
        self._stop.set()

    def hurry(self) -> None:
        """Cut the drain short: workers hand back what they hold, and stop."""
        self._hurry.set()
        self._stop.set()

    def statuses(self) -> dict[str, MessageQueueStatus]:
        """The status of every queue, by its name on the broker."""
        return {
            name: keeper.status
            for name, keeper in list(self._keepers.items())
            if keeper.status is not None
        }

    def decisions(self) -> dict[str, ScaleDecision]:
        """The latest scaling decision for every queue, by its name on the broker."""
        return {
            name: keeper.decision
            for name, keeper in list(self._keepers.items())
            if keeper.decision is not None
        }

    # --- rounds ---------------------------------------------------------------------------------

    def round(self) -> None:
        """Do one round for every queue."""
        declaration = self._source.read()
        self._declare({queue.queue_name: queue for queue in declaration.queues})
        down = ""
        for name, keeper in self._keepers.items():
            with _logged(name):
                keeper.round(problem=declaration.problem, down=down)
                down = down or keeper.unreachable
        for name, keeper in list(self._leaving.items()):
            with _logged(name):
                if keeper.leave(down=down):
                    del self._leaving[name]
        self._tell()

    def _declare(self, declared: Mapping[str, MessageQueue]) -> None:
        for name in [name for name in self._keepers if name not in declared]:
            logger.info("%s is no longer declared: its workers drain", name)
            self._leaving[name] = self._keepers.pop(name)
        for name, queue in declared.items():
            if keeper := self._leaving.pop(name, None):
                self._keepers[name] = keeper
            if name in self._keepers:
                self._keepers[name].declare(queue)
            else:
                self._keepers[name] = Keeper(
                    queue,
                    backend=self._backend,
                    broker=self._broker,
                    clock=self._clock,
                    outside_autoscaler=self._outside_autoscaler,
                )

    def _drain(self) -> None:
        """Go on until no worker is left. What is declared stays declared."""
        leaving = {**self._leaving, **self._keepers}
        tell_at = 0.0
        while leaving:
            down = ""
            for name, keeper in list(leaving.items()):
                with _logged(name):
                    if self._hurry.is_set():
                        keeper.hurry()
                    if keeper.leave(down=down, stopping=True):
                        del leaving[name]
                    down = down or keeper.unreachable
            if self._clock.seconds() >= tell_at or not leaving:
                self._tell()
                tell_at = self._clock.seconds() + self._interval_s
            if leaving:
                time.sleep(_DRAIN_STEP_S)

    def _tell(self) -> None:
        if self._report is not None:
            with _logged("report"):
                self._report(self.statuses())


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log any trouble, and go on: the loop has others to look after."""
    try:
        yield
    except Exception:
        logger.exception("%s: this round failed", what)
