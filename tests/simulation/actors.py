"""Who takes part: producers, workers and a supervisor, each with the code that real ones run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import redis

from celeriac.backend.base import Fleet
from celeriac.broker.message import DONE, Failure, Message, Outcome, Settlement
from celeriac.broker.queue import Queue
from celeriac.client.client import BulkInterrupted, Client
from celeriac.client.job import Job
from celeriac.control.broker import RedisBroker
from celeriac.control.keeper import Keeper as Supervisor
from celeriac.spec.queue import MessageQueue
from celeriac.worker.consumer import Consumer
from celeriac.worker.housekeeper import Housekeeper
from celeriac.worker.outcome import decide
from celeriac.worker.pools.solo import run_solo
from celeriac.worker.pools.threads import run_threads
from tests.simulation.network import Network, SimulatedClient
from tests.simulation.world import Process, World

QUEUE = "q"
LEASE_S = 4
DRAIN_S = 4.0


@dataclass(frozen=True, slots=True)
class Task:
    """A message to be sent, and how its runs go."""

    id: str
    priority: str = "normal"
    delay_s: float = 0.0
    run_s: float = 0.01
    failures: int = 0
    """How many of its first runs fail."""
    poison: bool = False
    """Whether it kills whoever runs it."""


@dataclass(slots=True)
class Run:
    """One run of a task, as the outside world sees it."""

    task: str
    worker: str
    lease: str
    at: float
    attempt: int
    ended: str = ""


@dataclass(slots=True)
class Notes:
    """What producers and tasks saw, independent of the queue."""

    tasks: dict[str, Task]
    accepted: dict[str, float] = field(default_factory=dict)
    """By id: when a producer heard that the queue has it."""
    runs: list[Run] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scene:
    """What all actors share."""

    world: World
    network: Network
    notes: Notes
    declared: MessageQueue

    def client(self, process: Process) -> redis.Redis:
        """Connect a process to the server."""
        return SimulatedClient(self.network, process)


# --- workers ------------------------------------------------------------------------------------------


class Runner:
    """Runs tasks: in place of Celery's tracer, what a task is said to do."""

    def __init__(self, scene: Scene, worker: Worker, consumer: Consumer) -> None:
        self._scene, self._worker, self._consumer = scene, worker, consumer
        self._process = worker.process

    def run(self, message: Message) -> Settlement:
        """Run one message to its end, as AttemptRunner does."""
        world, process = self._scene.world, self._process
        task = self._scene.notes.tasks[message.id]
        run = Run(task.id, process.name, message.lease, world.now, message.attempt + 1)
        self._scene.notes.runs.append(run)
        self._check_start(message)
        world.trace(process.name, f"runs {task.id}, attempt {run.attempt} ({message.lease})")
        process.machine.sleep(task.run_s)
        self._worker.busy_until = world.now
        if task.poison:
            run.ended = "killed"
            process.exit()
        failed = run.attempt <= task.failures
        run.ended = "failed" if failed else "succeeded"
        outcome = self._failure(message) if failed else DONE
        return Settlement(message, outcome, int(task.run_s * 1000))

    def _failure(self, message: Message) -> Outcome:
        return decide(
            error=ValueError("as planned"),
            attempt=message.attempt + 1,
            policy=self._consumer.policy().retry,
            failure=Failure(reason="failed", error="ValueError", worker=self._process.name),
            random=self._scene.world.random.random,
        )

    def _check_start(self, message: Message) -> None:
        """Nothing starts on a lease that has long run out: somebody else may have run it."""
        world, server = self._scene.world, self._scene.network.server
        if message.lease in server.ledger.leases or server.ledger.forgetful:
            return
        confirmed = server.ledger.confirmed.get(message.lease, 0)
        age_s = (server.now_ms - confirmed) / 1000
        since_asked = world.now - (self._consumer.inflight.running[message.lease][1] - 1000)
        if age_s - since_asked > LEASE_S + 0.1:
            world.accuse(
                f"{self._process.name} starts {message.id}, whose lease the server confirmed last "
                f"{age_s:.2f} s ago and has given away since"
            )


@dataclass(slots=True)
class Worker:
    """A worker process, and the hand that stops it."""

    process: Process
    slots: int
    housekeeper: Housekeeper | None = None
    draining: bool = False
    busy_until: float = 0.0
    """When it was last told to drain, or its last run ended, whichever came later."""

    def drain(self) -> None:
        """What SIGTERM does. Called by the hub."""
        if self.housekeeper is None:
            self.process.kill("SIGTERM before it listens")
        elif self.process.alive and not self.draining:
            self.process.world.trace(self.process.name, "SIGTERM")
            self.draining = True
            self.busy_until = max(self.busy_until, self.process.world.now)
            self.housekeeper.close_by(1000 + self.process.world.now + DRAIN_S)
            self.housekeeper.consumer.closing.set()


def start_worker(scene: Scene, name: str, *, slots: int) -> Worker:
    """Start a worker: the Solo pool with one slot, the Threads pool with more."""
    process = Process(scene.world, name)
    worker = Worker(process, slots)

    def main() -> None:
        queue = Queue(scene.client(process), QUEUE, lease_ms=LEASE_S * 1000)
        consumer = Consumer(queue, name, slots=slots, machine=process.machine)
        worker.housekeeper = Housekeeper(consumer, on_overrun=process.exit)
        worker.housekeeper.start()
        runner = cast("Any", Runner(scene, worker, consumer))
        if slots == 1:
            run_solo(consumer, runner)
        else:
            run_threads(consumer, runner, concurrency=slots)
        worker.housekeeper.stop()

    process.start(main)
    return worker


# --- producers ----------------------------------------------------------------------------------------


def start_producer(
    scene: Scene, name: str, tasks: list[Task], *, bulk: int, pause_s: float, seed: int
) -> Process:
    """Start a producer, which sends its tasks until the server has them, under the same ids."""
    process = Process(scene.world, name)
    chance = Random(seed)

    def main() -> None:
        client = Client(scene.client(process))
        left = [task for task in tasks if task.id not in scene.notes.accepted]
        while left:
            process.machine.sleep(chance.uniform(0, 2 * pause_s))
            batch, left = left[:bulk], left[bulk:]
            _send(scene, process, client, batch)

    process.start(main)
    return process


def _send(scene: Scene, process: Process, client: Client, batch: list[Task]) -> None:
    jobs = [job_of(task) for task in batch]
    while jobs:
        try:
            if len(jobs) == 1:
                receipts, jobs = [client.send(QUEUE, **_call(jobs[0]))], []
            else:
                receipts, jobs = client.send_many(QUEUE, jobs).receipts, []
        except BulkInterrupted as error:
            receipts, jobs = error.receipt.receipts, [*error.uncertain, *error.unsent]
            process.machine.sleep(0.1)
        except redis.RedisError:
            receipts = []
            process.machine.sleep(0.1)
        for receipt in receipts:
            scene.notes.accepted[receipt.id] = scene.world.now


def job_of(task: Task) -> Job:
    """The call that stands for a task; its id is its dedup key, so that it may be sent again."""
    return Job(
        "simulated", id=task.id, priority=task.priority, delay=task.delay_s, dedup_key=task.id
    )


def _call(job: Job) -> dict[str, Any]:
    return {
        "task": job.task,
        "id": job.id,
        "priority": job.priority,
        "delay": job.delay,
        "dedup_key": job.dedup_key,
    }


# --- the supervisor -------------------------------------------------------------------------------------


class Watched:
    """A backend that sees the simulation's workers; what keeps them running is the simulation itself."""

    def __init__(self, workers: Callable[[], Iterator[Worker]], lost: set[str]) -> None:
        self._workers = workers
        self._lost = lost

    def observe(self, queue: MessageQueue, *, heard: Mapping[str, int]) -> Fleet:
        return Fleet(ready=sum(1 for _ in self._workers()), lost=tuple(sorted(self._lost)))

    def ensure(self, queue: MessageQueue, *, replicas: int) -> None: ...

    def remove(self, queue: MessageQueue) -> None: ...

    def hurry(self, queue: MessageQueue) -> None: ...

    def acknowledge(self, queue: MessageQueue, workers: Collection[str]) -> None:
        self._lost.difference_update(workers)


class Clock:
    """The supervisor's clock: its machine's."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def now(self) -> datetime:
        return datetime(2027, 1, 15, tzinfo=UTC) + timedelta(seconds=self._process.world.now)

    def seconds(self) -> float:
        return self._process.machine.monotonic()


def start_supervisor(scene: Scene, name: str, backend: Watched) -> Process:
    """Start what looks after the queue: the control loop's rounds for one queue."""
    process = Process(scene.world, name)

    def main() -> None:
        broker = RedisBroker(scene.client(process))
        supervisor = Supervisor(
            scene.declared, backend=backend, broker=broker, clock=Clock(process)
        )
        while True:
            supervisor.round()
            process.machine.sleep(1.0)

    process.start(main)
    return process
