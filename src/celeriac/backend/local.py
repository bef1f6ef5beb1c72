"""Workers as child processes of this one: the backend of a machine without a cluster.

observe: reap the dead, note who is ready     ensure: start, drain and replace, a step at a time
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from celeriac.backend.base import Fleet
from celeriac.backend.command import Command, worker_command
from celeriac.backend.output import Output
from celeriac.backend.process import WorkerProcess, describe_end
from celeriac.backend.replicas import (
    PROVEN_S,
    Close,
    Drain,
    Replica,
    Start,
    State,
    Step,
    after_death,
    next_steps,
)
from celeriac.spec.queue import MessageQueue

logger = logging.getLogger(__name__)

#: A worker ends its own drain in time; this is for one that cannot.
OVERDUE_S = 5.0


@dataclass(slots=True)
class _Worker:
    process: WorkerProcess
    drain_s: float
    deadlines: list[float] = field(default_factory=list)
    """When to stop it harder, next one first."""


@dataclass(slots=True)
class _FleetState:
    queue: MessageQueue
    command: Command
    wanted: int = 0
    replicas: dict[str, Replica] = field(default_factory=dict)
    workers: dict[str, _Worker] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    unproven: bool = False
    """The last worker to start died before it was ready."""
    last_failure: str = ""


class LocalBackend:
    """Runs workers as child processes.

    Children are tied to the thread that makes the calls: on Linux they drain when it ends.
    ``python`` is the interpreter that workers run on; ``command`` builds what they run (for tests).
    """

    def __init__(
        self,
        *,
        broker_url: str,
        output: Output,
        python: str = sys.executable,
        monotonic: Callable[[], float] = time.monotonic,
        command: Callable[..., Command] = worker_command,
    ) -> None:
        self._broker_url = broker_url
        self._output = output
        self._python = python
        self._now = monotonic
        self._command = command
        self._fleets: dict[str, _FleetState] = {}

    # --- the protocol ---------------------------------------------------------------------------

    def observe(self, queue: MessageQueue, *, heard: Mapping[str, int]) -> Fleet:
        fleet = self._fleets.get(queue.queue_name)
        if fleet is None:
            return Fleet()
        for name in list(fleet.workers):
            self._look_at(fleet, name, heard)
        return _summary(fleet)

    def ensure(self, queue: MessageQueue, *, replicas: int) -> None:
        fleet = self._declared(queue)
        fleet.wanted = replicas
        for step in self._steps(fleet):
            self._take(fleet, step)
        self._press(fleet)

    def remove(self, queue: MessageQueue) -> None:
        fleet = self._fleets.get(queue.queue_name)
        if fleet is None:
            return
        fleet.wanted = 0
        for step in self._steps(fleet):
            self._take(fleet, step)
        self._press(fleet)
        if not fleet.replicas and not fleet.lost:
            del self._fleets[queue.queue_name]

    def hurry(self, queue: MessageQueue) -> None:
        fleet = self._fleets.get(queue.queue_name)
        for name, replica in fleet.replicas.items() if fleet else ():
            if fleet and replica.state is State.DRAINING:
                now = self._now()
                fleet.workers[name].deadlines = [now, now + OVERDUE_S]

    def acknowledge(self, queue: MessageQueue, workers: Collection[str]) -> None:
        if fleet := self._fleets.get(queue.queue_name):
            fleet.lost -= set(workers)

    # --- beside the protocol --------------------------------------------------------------------

    def pids(self, queue: MessageQueue) -> dict[str, int]:
        """The process ids of a queue's living workers, by name."""
        fleet = self._fleets.get(queue.queue_name)
        return {name: it.process.pid for name, it in fleet.workers.items()} if fleet else {}

    def kill(self) -> None:
        """End every worker at once; their leases run out by themselves.

        Does not wait, so a signal handler may call it.
        """
        for fleet in self._fleets.values():
            for worker in fleet.workers.values():
                worker.process.kill()

    def close(self) -> None:
        """End every worker at once, and wait until all are gone. The backend starts anew then."""
        self.kill()
        for fleet in self._fleets.values():
            while any(worker.process.ended() is None for worker in fleet.workers.values()):
                time.sleep(0.01)
        self._fleets.clear()

    # --- inside ---------------------------------------------------------------------------------

    def _declared(self, queue: MessageQueue) -> _FleetState:
        command = self._command(queue, broker_url=self._broker_url, environment=os.environ)
        fleet = self._fleets.get(queue.queue_name)
        if fleet is None:
            fleet = self._fleets[queue.queue_name] = _FleetState(queue, command)
            _warn_of_missing(queue, command)
        fleet.queue = queue
        if command.revision != fleet.command.revision:
            _warn_of_missing(queue, command)
            fleet.command, fleet.unproven = command, False
            # What failed may be mended now: no gap waits any longer.
            for name, replica in fleet.replicas.items():
                if replica.state is State.WAITING:
                    fleet.replicas[name] = replace(
                        replica, revision=command.revision, since=self._now(), failures=0
                    )
        return fleet

    def _look_at(self, fleet: _FleetState, name: str, heard: Mapping[str, int]) -> None:
        replica, worker = fleet.replicas[name], fleet.workers[name]
        code = worker.process.ended()
        if code is None:
            self._output.trim(name)
            if name in heard and replica.state is State.STARTING:
                replica, fleet.unproven = replace(replica, state=State.READY), False
            failures = 0 if self._now() - replica.since >= PROVEN_S else replica.failures
            fleet.replicas[name] = replace(replica, held=heard.get(name, 0), failures=failures)
            return
        del fleet.workers[name], fleet.replicas[name]
        fleet.lost.add(name)
        if replica.state is State.DRAINING:
            logger.info("worker %s of %s has stopped", name, fleet.queue.queue_name)
            return
        gap = after_death(replica, now=self._now())
        fleet.replicas[name] = gap
        fleet.unproven = fleet.unproven or replica.state is State.STARTING
        fleet.last_failure = describe_end(code, self._output.last_lines(name, 8))
        logger.warning(
            "worker %s of %s died (%s); again in %.0f s",
            name,
            fleet.queue.queue_name,
            fleet.last_failure,
            gap.since - self._now(),
        )

    def _steps(self, fleet: _FleetState) -> list[Step]:
        return next_steps(
            list(fleet.replicas.values()),
            wanted=fleet.wanted,
            revision=fleet.command.revision,
            one_by_one=fleet.unproven,
            now=self._now(),
        )

    def _take(self, fleet: _FleetState, step: Step) -> None:
        match step:
            case Start(gap=gap, failures=failures):
                fleet.replicas.pop(gap, None)
                self._start(fleet, failures)
            case Drain(name=name):
                self._drain(fleet, name)
            case Close(name=name):
                del fleet.replicas[name]

    def _start(self, fleet: _FleetState, failures: int) -> None:
        name = f"{fleet.queue.name}-{secrets.token_hex(3)}"
        process = WorkerProcess(name, fleet.command, python=self._python, output=self._output)
        fleet.workers[name] = _Worker(process, fleet.queue.spec.worker.drain_seconds)
        fleet.replicas[name] = Replica(
            name=name,
            revision=fleet.command.revision,
            state=State.STARTING,
            since=self._now(),
            failures=failures,
        )
        logger.info("worker %s of %s starts", name, fleet.queue.queue_name)

    def _drain(self, fleet: _FleetState, name: str) -> None:
        worker, now = fleet.workers[name], self._now()
        fleet.replicas[name] = replace(fleet.replicas[name], state=State.DRAINING)
        overdue = now + worker.drain_s + OVERDUE_S
        worker.deadlines = [overdue, overdue + OVERDUE_S]
        worker.process.terminate()
        logger.info("worker %s of %s drains", name, fleet.queue.queue_name)

    def _press(self, fleet: _FleetState) -> None:
        """Stop harder what should have ended its drain: hand back at first, then kill."""
        for name, worker in fleet.workers.items():
            if worker.deadlines and self._now() >= worker.deadlines[0]:
                del worker.deadlines[0]
                if worker.deadlines:
                    worker.process.terminate()
                else:
                    logger.warning("worker %s did not stop: killed", name)
                    worker.process.kill()


def _summary(fleet: _FleetState) -> Fleet:
    replicas = list(fleet.replicas.values())
    count = {state: sum(replica.state is state for replica in replicas) for state in State}
    living = [it for it in replicas if it.state in (State.STARTING, State.READY)]
    failures = max((replica.failures for replica in replicas), default=0)
    return Fleet(
        wanted=fleet.wanted,
        starting=count[State.STARTING],
        ready=count[State.READY],
        waiting=count[State.WAITING],
        draining=count[State.DRAINING],
        outdated=sum(replica.revision != fleet.command.revision for replica in living),
        failures=failures,
        last_failure=fleet.last_failure,
        lost=tuple(sorted(fleet.lost)),
    )


def _warn_of_missing(queue: MessageQueue, command: Command) -> None:
    if command.missing:
        logger.warning(
            "%s: %s would come from the cluster; set it in the environment of this process",
            queue.queue_name,
            ", ".join(command.missing),
        )
