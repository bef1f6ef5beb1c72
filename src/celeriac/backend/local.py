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
from celeriac.backend.places import (
    PROVEN_S,
    Close,
    Drain,
    Place,
    Start,
    State,
    Step,
    after_death,
    next_steps,
)
from celeriac.backend.process import WorkerProcess, describe_end
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
class _Fleet:
    queue: MessageQueue
    command: Command
    wanted: int = 0
    places: dict[str, Place] = field(default_factory=dict)
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
        self._fleets: dict[str, _Fleet] = {}

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
        if not fleet.places and not fleet.lost:
            del self._fleets[queue.queue_name]

    def hurry(self, queue: MessageQueue) -> None:
        fleet = self._fleets.get(queue.queue_name)
        for name, place in fleet.places.items() if fleet else ():
            if fleet and place.state is State.DRAINING:
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

    def _declared(self, queue: MessageQueue) -> _Fleet:
        command = self._command(queue, broker_url=self._broker_url, environment=os.environ)
        fleet = self._fleets.get(queue.queue_name)
        if fleet is None:
            fleet = self._fleets[queue.queue_name] = _Fleet(queue, command)
            _warn_of_missing(queue, command)
        fleet.queue = queue
        if command.revision != fleet.command.revision:
            _warn_of_missing(queue, command)
            fleet.command, fleet.unproven = command, False
            # What failed may be mended now: no gap waits any longer.
            for name, place in fleet.places.items():
                if place.state is State.WAITING:
                    fleet.places[name] = replace(
                        place, revision=command.revision, since=self._now(), failures=0
                    )
        return fleet

    def _look_at(self, fleet: _Fleet, name: str, heard: Mapping[str, int]) -> None:
        place, worker = fleet.places[name], fleet.workers[name]
        code = worker.process.ended()
        if code is None:
            self._output.trim(name)
            if name in heard and place.state is State.STARTING:
                place, fleet.unproven = replace(place, state=State.READY), False
            failures = 0 if self._now() - place.since >= PROVEN_S else place.failures
            fleet.places[name] = replace(place, held=heard.get(name, 0), failures=failures)
            return
        del fleet.workers[name], fleet.places[name]
        fleet.lost.add(name)
        if place.state is State.DRAINING:
            logger.info("worker %s of %s has stopped", name, fleet.queue.queue_name)
            return
        gap = after_death(place, now=self._now())
        fleet.places[name] = gap
        fleet.unproven = fleet.unproven or place.state is State.STARTING
        fleet.last_failure = describe_end(code, self._output.last_lines(name, 8))
        logger.warning(
            "worker %s of %s died (%s); again in %.0f s",
            name,
            fleet.queue.queue_name,
            fleet.last_failure,
            gap.since - self._now(),
        )

    def _steps(self, fleet: _Fleet) -> list[Step]:
        return next_steps(
            list(fleet.places.values()),
            wanted=fleet.wanted,
            revision=fleet.command.revision,
            one_by_one=fleet.unproven,
            now=self._now(),
        )

    def _take(self, fleet: _Fleet, step: Step) -> None:
        match step:
            case Start(gap=gap, failures=failures):
                fleet.places.pop(gap, None)
                self._start(fleet, failures)
            case Drain(name=name):
                self._drain(fleet, name)
            case Close(name=name):
                del fleet.places[name]

    def _start(self, fleet: _Fleet, failures: int) -> None:
        name = f"{fleet.queue.name}-{secrets.token_hex(3)}"
        process = WorkerProcess(name, fleet.command, python=self._python, output=self._output)
        fleet.workers[name] = _Worker(process, fleet.queue.spec.worker.drain_seconds)
        fleet.places[name] = Place(
            name=name,
            revision=fleet.command.revision,
            state=State.STARTING,
            since=self._now(),
            failures=failures,
        )
        logger.info("worker %s of %s starts", name, fleet.queue.queue_name)

    def _drain(self, fleet: _Fleet, name: str) -> None:
        worker, now = fleet.workers[name], self._now()
        fleet.places[name] = replace(fleet.places[name], state=State.DRAINING)
        overdue = now + worker.drain_s + OVERDUE_S
        worker.deadlines = [overdue, overdue + OVERDUE_S]
        worker.process.terminate()
        logger.info("worker %s of %s drains", name, fleet.queue.queue_name)

    def _press(self, fleet: _Fleet) -> None:
        """Stop harder what should have ended its drain: hand back at first, then kill."""
        for name, worker in fleet.workers.items():
            if worker.deadlines and self._now() >= worker.deadlines[0]:
                del worker.deadlines[0]
                if worker.deadlines:
                    worker.process.terminate()
                else:
                    logger.warning("worker %s did not stop: killed", name)
                    worker.process.kill()


def _summary(fleet: _Fleet) -> Fleet:
    places = list(fleet.places.values())
    count = {state: sum(place.state is state for place in places) for state in State}
    living = [it for it in places if it.state in (State.STARTING, State.READY)]
    failures = max((place.failures for place in places), default=0)
    return Fleet(
        wanted=fleet.wanted,
        starting=count[State.STARTING],
        ready=count[State.READY],
        waiting=count[State.WAITING],
        draining=count[State.DRAINING],
        outdated=sum(place.revision != fleet.command.revision for place in living),
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
