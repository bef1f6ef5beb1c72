"""One schedule from its beginning to its verdict.

First the storm, in which things go wrong; then it ends, and everything must be done within a bounded time;
then all workers are drained, and must leave nothing behind and charge nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import redis

from tests.simulation.actors import (
    LEASE_S,
    Notes,
    Scene,
    Task,
    Watched,
    Worker,
    start_producer,
    start_supervisor,
    start_worker,
)
from tests.simulation.judge import Judge
from tests.simulation.ledger import Ledger
from tests.simulation.network import Network, Odds
from tests.simulation.schedule import Schedule
from tests.simulation.server import Changes, Server
from tests.simulation.world import Process, Violation, World

#: Within this time after the last fault everything is done, in seconds of the simulated clock.
CALM_S = 150.0
DRAINED_S = 15.0


@dataclass(slots=True)
class Tally:
    """What is counted of schedules, of one or of many."""

    messages: int = 0
    commands: int = 0
    faults: int = 0
    runs: int = 0
    repeated: int = 0
    """Messages that ran to a good end more than once."""
    redelivered: int = 0
    forgotten: int = 0
    seconds: float = 0.0

    def add_to(self, total: Tally) -> None:
        """Add these counts to others."""
        for count in fields(Tally):
            sum_ = getattr(total, count.name) + getattr(self, count.name)
            setattr(total, count.name, sum_)


@dataclass(slots=True, kw_only=True)
class Result(Tally):
    """What became of one schedule."""

    seed: int
    violation: str = ""
    lines: list[str] = field(default_factory=list)


class Simulation:
    """One schedule, played on a server."""

    def __init__(
        self,
        schedule: Schedule,
        real: redis.Redis,
        *,
        changes: Changes | None = None,
        tracing: bool = False,
    ) -> None:
        self.schedule = schedule
        self.world = World(f"world {schedule.seed}", tracing=tracing)
        self.world.switch_chance = schedule.switch_chance
        self.notes = Notes({task.id: task for task in schedule.tasks})
        self.judge = Judge(schedule, self.world, self.notes)
        self.server = self.judge.server = Server(
            self.world,
            real,
            lambda: Ledger(self.judge.charge, self.judge.return_),
            changes=changes,
            calm=schedule.calm,
        )
        self.network = Network(
            self.server, latency_s=schedule.latency_s, lingering=not schedule.calm
        )
        self.scene = Scene(self.world, self.network, self.notes, schedule.declared)
        self.workers: list[Worker] = []
        self.producers: list[Process] = []
        self.supervisor: Process | None = None
        self.blows = 0
        self.storming = True
        self.ending = False
        self._lost: set[str] = set()
        self._numbers = 0

    # --- playing ----------------------------------------------------------------------------------

    def play(self) -> Result:
        """Play it, and say what became of it."""
        result = Result(seed=self.schedule.seed)
        try:
            self._play()
            self.judge.end()
        except Violation as error:
            result.violation = str(error)
        finally:
            for process in list(self.judge.processes.values()):
                self.ending = True
                process.kill("the end")
        runs = [run.task for run in self.notes.runs if run.ended == "succeeded"]
        result.messages = len(self.schedule.tasks)
        result.commands = self.server.commands
        result.faults = self.blows + self.network.fates
        result.runs = len(self.notes.runs)
        result.repeated = len({task for task in runs if runs.count(task) > 1})
        result.redelivered = self.server.ledger.counts["redelivered"]
        result.forgotten = len(self.server.forgotten)
        result.seconds = self.world.now
        result.lines = list(self.world.lines)
        return result

    def _play(self) -> None:
        schedule, world = self.schedule, self.world
        for slots in schedule.workers:
            self._start_worker(slots)
        shares: list[list[Task]] = [[] for _ in range(schedule.producers)]
        for number, task in enumerate(schedule.tasks):
            shares[number % len(shares)].append(task)
        for number, share in enumerate(shares):
            self._start_producer(number, share)
        if schedule.supervised:
            self._start_supervisor()
        self.network.odds = Odds(schedule.fates, longest_freeze_s=1.5 * LEASE_S)
        if schedule.blows:
            world.at(world.random.uniform(0, schedule.blow_every_s), self._blow)
        world.run(lambda: schedule.calm and self._done(), at_most_s=schedule.storm_s)
        self._calm_down()
        if not world.run(self._done, at_most_s=CALM_S):
            world.accuse(f"{CALM_S} s after the last fault not all is done: {self._left()}")
            raise Violation(world.violations[0])
        self._drain()

    def _calm_down(self) -> None:
        self.world.trace("world", "no more faults")
        self.storming = False
        self.network.odds = Odds({})
        for process in self.judge.processes.values():
            process.cut_until = min(process.cut_until, self.world.now)
            process.thaw()

    def _drain(self) -> None:
        self.ending = True
        redelivered = self.server.ledger.counts["redelivered"]
        living = [worker for worker in self.workers if worker.process.alive]
        for worker in living:
            worker.drain()
        gone = self.world.run(
            lambda: not any(worker.process.alive for worker in living), at_most_s=DRAINED_S
        )
        if not gone:
            self.world.accuse("a worker did not drain")
        if self.server.ledger.counts["redelivered"] != redelivered:
            self.world.accuse("a drain charged a delivery")

    def _done(self) -> bool:
        return not any(it.alive for it in self.producers) and not self.server.ledger.unfinished

    def _left(self) -> str:
        ledger = self.server.ledger
        living = [it.name for it in self.judge.processes.values() if it.alive]
        ready = {letter: [it.id for it in ready] for letter, ready in ledger.ready.items() if ready}
        held = {lease.copy.id: lease.holder for lease in ledger.leases.values()}
        delayed = [copy.id for _, _, copy in ledger.delayed]
        return f"ready {ready}, leased {held}, delayed {delayed}, alive {living}"

    # --- processes --------------------------------------------------------------------------------

    def _living(self) -> Iterator[Worker]:
        return (worker for worker in self.workers if worker.process.alive)

    def _start_worker(self, slots: int, name: str = "") -> None:
        if self.ending:
            return
        self._numbers += 1
        worker = start_worker(self.scene, name or f"w{self._numbers}", slots=slots)
        self.workers.append(worker)
        self.judge.processes[worker.process.name] = worker.process
        worker.process.on_end.append(lambda process: self.judge.exit(worker))
        worker.process.on_end.append(lambda process: self._replace(process, slots))

    def _replace(self, process: Process, slots: int) -> None:
        if not process.clean:
            self.judge.died.add(process.name)
            if not self.schedule.same_names:
                self._lost.add(process.name)
        name = process.name if self.schedule.same_names else ""
        self.world.at(self.world.random.uniform(0.05, 1), self._start_worker, slots, name)

    def _start_producer(self, number: int, share: list[Task]) -> None:
        if self.ending:
            return
        schedule = self.schedule
        process = start_producer(
            self.scene,
            f"p{number}",
            share,
            bulk=schedule.bulk,
            pause_s=schedule.pause_s,
            seed=schedule.seed + number,
        )
        self.judge.processes[process.name] = process
        self.producers = [it for it in self.producers if it.name != process.name] + [process]

        def again(process: Process) -> None:
            if not process.clean:
                self._start_producer(number, share)

        process.on_end.append(again)

    def _start_supervisor(self) -> None:
        if self.ending:
            return
        backend = Watched(self._living, self._lost)
        self.supervisor = start_supervisor(self.scene, "supervisor", backend)
        self.judge.processes["supervisor"] = self.supervisor
        self.supervisor.on_end.append(lambda process: self.world.at(0.3, self._start_supervisor))

    # --- the storm --------------------------------------------------------------------------------

    def _blow(self) -> None:
        if not self.storming:
            return
        chance = self.world.random
        self.blows += 1
        blow = chance.choice(self.schedule.blows)
        living = list(self._living())
        if "worker" in blow and living:
            self._strike(blow, chance.choice(living))
        elif blow == "kill producer" and self.producers:
            chance.choice(self.producers).kill("killed")
        elif blow == "kill supervisor" and self.supervisor is not None:
            self.supervisor.kill("killed")
        elif blow == "restart server":
            forget_s = chance.uniform(0, 1) if self.schedule.forgets else 0.0
            down_s = chance.choice([0.1, 1, 1.5 * LEASE_S]) * chance.random()
            self.server.stop(down_s=down_s, forget_s=forget_s)
        self.world.at(chance.expovariate(1 / self.schedule.blow_every_s), self._blow)

    def _strike(self, blow: str, worker: Worker) -> None:
        chance, process = self.world.random, worker.process
        if blow == "kill worker":
            process.kill("killed")
        elif blow == "freeze worker":
            process.freeze(chance.uniform(0, 2 * LEASE_S), cut_s=chance.choice([0, 0, 2]))
        elif blow == "drain worker":
            worker.drain()
        else:
            process.cut_until = process.troubled_at = self.world.now + chance.uniform(
                0, 2 * LEASE_S
            )
            self.world.trace(process.name, f"is cut off until {process.cut_until:.2f}")
