"""A backend without processes: it obeys the protocol, and tests decide what happens to its workers.

Workers are ready, and drains are over, when the backend is looked at the next time, unless the test
holds them back.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from celeriac.backend.base import Fleet
from celeriac.backend.replicas import (
    Close,
    Drain,
    Replica,
    Start,
    State,
    after_death,
    next_steps,
)
from celeriac.spec.queue import MessageQueue


@dataclass(slots=True)
class _FleetState:
    revision: str
    wanted: int = 0
    replicas: dict[str, Replica] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    last_failure: str = ""


class FakeBackend:
    """Keeps workers in memory."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._fleets: dict[str, _FleetState] = {}
        self._numbers = itertools.count()
        self.hold_starts = False
        """Whether workers stay in their start."""
        self.hold_drains = False
        """Whether draining workers go on."""

    # --- the protocol ---------------------------------------------------------------------------

    def observe(self, queue: MessageQueue, *, heard: Mapping[str, int]) -> Fleet:
        fleet = self._fleets.get(queue.queue_name)
        if fleet is None:
            return Fleet()
        for name, replica in list(fleet.replicas.items()):
            if replica.state is State.STARTING and not self.hold_starts:
                fleet.replicas[name] = replace(replica, state=State.READY)
            elif replica.state is State.DRAINING and not self.hold_drains:
                del fleet.replicas[name]
        count = {
            state: sum(replica.state is state for replica in fleet.replicas.values())
            for state in State
        }
        living = [it for it in fleet.replicas.values() if it.state in (State.STARTING, State.READY)]
        return Fleet(
            wanted=fleet.wanted,
            starting=count[State.STARTING],
            ready=count[State.READY],
            waiting=count[State.WAITING],
            draining=count[State.DRAINING],
            outdated=sum(replica.revision != fleet.revision for replica in living),
            failures=max((replica.failures for replica in fleet.replicas.values()), default=0),
            last_failure=fleet.last_failure,
            lost=tuple(sorted(fleet.lost)),
        )

    def ensure(self, queue: MessageQueue, *, replicas: int) -> None:
        revision = queue.spec.worker.model_dump_json()
        fleet = self._fleets.setdefault(queue.queue_name, _FleetState(revision))
        fleet.revision, fleet.wanted = revision, replicas
        self._step(queue, fleet)

    def remove(self, queue: MessageQueue) -> None:
        fleet = self._fleets.get(queue.queue_name)
        if fleet is None:
            return
        fleet.wanted = 0
        self._step(queue, fleet)
        if not fleet.replicas and not fleet.lost:
            del self._fleets[queue.queue_name]

    def hurry(self, queue: MessageQueue) -> None:
        if fleet := self._fleets.get(queue.queue_name):
            for name in [n for n, it in fleet.replicas.items() if it.state is State.DRAINING]:
                del fleet.replicas[name]

    def acknowledge(self, queue: MessageQueue, workers: Collection[str]) -> None:
        if fleet := self._fleets.get(queue.queue_name):
            fleet.lost -= set(workers)

    # --- for tests ------------------------------------------------------------------------------

    def workers(self, queue: MessageQueue) -> list[str]:
        """The names of workers that start, are ready, or drain."""
        fleet = self._fleets.get(queue.queue_name)
        replicas = fleet.replicas if fleet else {}
        return [name for name, it in replicas.items() if it.state is not State.WAITING]

    def kill(self, queue: MessageQueue, name: str, *, why: str = "killed by SIGKILL") -> None:
        """Let a worker die."""
        fleet = self._fleets[queue.queue_name]
        replica = fleet.replicas.pop(name)
        fleet.lost.add(name)
        if replica.state is not State.DRAINING:
            fleet.replicas[name] = after_death(replica, now=self._now())
            fleet.last_failure = why

    # --- inside ---------------------------------------------------------------------------------

    def _step(self, queue: MessageQueue, fleet: _FleetState) -> None:
        now = self._now()
        steps = next_steps(
            list(fleet.replicas.values()),
            wanted=fleet.wanted,
            revision=fleet.revision,
            one_by_one=False,
            now=now,
        )
        for step in steps:
            match step:
                case Start(gap=gap, failures=failures):
                    fleet.replicas.pop(gap, None)
                    name = f"{queue.name}-{next(self._numbers)}"
                    fleet.replicas[name] = Replica(
                        name=name,
                        revision=fleet.revision,
                        state=State.STARTING,
                        since=now,
                        failures=failures,
                    )
                case Drain(name=name):
                    fleet.replicas[name] = replace(fleet.replicas[name], state=State.DRAINING)
                case Close(name=name):
                    del fleet.replicas[name]
