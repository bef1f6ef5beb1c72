"""Where a fault test takes place: a server, a queue, workers, the evidence, and the hand that does harm."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any, Literal, Self

from redis.exceptions import RedisError

import celeriac
from celeriac import BulkInterrupted
from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.message import QueueStats
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy
from tests.chaos.checker import Fault, Verdict, judge
from tests.chaos.processes import Command, Fleet, Worker, eventually
from tests.chaos.sidefile import History

Pool = Literal["solo", "threads", "prefork"]
POOLS: tuple[Pool, ...] = ("solo", "threads", "prefork")
#: Tasks at once in one worker.
SLOTS: dict[Pool, int] = {"solo": 1, "threads": 10, "prefork": 2}
#: As short as a worker takes it, so that a test need not wait long for a dead worker's messages.
LEASE_S = 2


@dataclass(frozen=True, slots=True)
class Job:
    """A uniquely numbered call of a task; its id is the message's and its first argument."""

    id: str
    task: str = "chaos.work"
    args: tuple[Any, ...] = ()


def work(count: int, *, ms: Callable[[], float] | float = 0, prefix: str = "j") -> list[Job]:
    """Jobs that do nothing for ``ms`` milliseconds each."""
    each = ms if callable(ms) else lambda: ms
    return [Job(f"{prefix}{n:06}", args=(round(each(), 2),)) for n in range(count)]


class Arena(ABC):
    """One server with one queue of one system. Everything in it ends with it."""

    system: str

    def __init__(
        self,
        folder: Path,
        *,
        seed: str,
        appendfsync: Literal["everysec", "always", "no"] = "everysec",
    ) -> None:
        self.folder = folder
        self.random = Random(seed)
        self.server = EmbeddedServer(folder / f"{self.system}-server", appendfsync=appendfsync)
        self.history = History(folder / f"{self.system}-runs")
        self.journal: list[Fault] = []
        self.accepted: dict[str, float] = {}
        self.uncertain: set[str] = set()
        self.fleets: list[Fleet] = []
        self.broker_tail_s = 0.0

    def __enter__(self) -> Self:
        self.server.start()
        try:
            self.open()
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for fleet in self.fleets:
            fleet.end()
        self.close()
        self.server.stop()

    @abstractmethod
    def open(self) -> None:
        """Make the queue."""

    @abstractmethod
    def close(self) -> None:
        """Close connections."""

    @abstractmethod
    def command(self, pool: Pool, *options: object) -> Command:
        """How to start a worker."""

    @abstractmethod
    def send(self, jobs: Sequence[Job]) -> None:
        """Publish jobs, and note when the broker said that it has them."""

    def on_death(self, worker: Worker) -> None:
        """What a supervisor does beside starting another worker."""

    # --- workers --------------------------------------------------------------------------------

    def fleet(self, pool: Pool, *options: object, size: int = 1, supervised: bool = False) -> Fleet:
        """Start workers and wait until they serve."""
        fleet = Fleet(
            size=size,
            command=self.command(pool, *options),
            folder=self.folder,
            prefix=f"{self.system}-{pool}-{len(self.fleets)}",
            on_death=self.on_death,
        )
        self.fleets.append(fleet)
        return fleet.start(supervised=supervised)

    def logs(self, text: str) -> int:
        """How many lines of all workers' logs contain a text."""
        files = self.folder.glob("*.log")
        return sum(text in line for file in files for line in file.read_text().splitlines())

    # --- harm -----------------------------------------------------------------------------------

    def kill(self, worker: Worker, *, parent_only: bool = False) -> None:
        """SIGKILL a worker."""
        self.journal.append(Fault(kind="kill", at=time.monotonic(), group=worker.group))
        worker.kill(parent_only=parent_only)

    def kill_process(self, pid: int) -> None:
        """SIGKILL one process."""
        self.journal.append(Fault(kind="kill", at=time.monotonic(), pid=pid))
        os.kill(pid, SIGKILL)

    @contextmanager
    def frozen(self, worker: Worker) -> Iterator[None]:
        """Freeze a worker, all its processes, for as long as the block takes."""
        at = time.monotonic()
        worker.signal_all(SIGSTOP)
        yield
        until = time.monotonic()
        self.journal.append(Fault(kind="freeze", at=at, until=until, group=worker.group))
        worker.signal_all(SIGCONT)

    def restart_broker(self, *, down_s: float = 0.0, harm: Callable[[], None] | None = None) -> None:
        """SIGKILL the broker and start it again on what its file holds."""
        at = time.monotonic()
        self.server.kill()
        if harm is not None:
            harm()
        time.sleep(down_s)
        self.server.start()
        self.journal.append(Fault(kind="broker", at=at, until=time.monotonic()))

    def catch_busy(self, fleet: Fleet, *, within_s: float = 10) -> Worker:
        """Wait for a worker that is at work now; one by chance if there are several."""

        def busy() -> list[Worker]:
            self.history.read()
            return [worker for worker in fleet.serving if self.history.busy(worker.group)]

        return self.random.choice(eventually(busy, within_s=within_s, what="a worker at work"))

    # --- judgement ------------------------------------------------------------------------------

    def finished(self, jobs: Collection[str]) -> bool:
        """Whether all these jobs have been finished by some run."""
        return self.history.read().finished.issuperset(jobs)

    def verdict(self, *, dead: Collection[str] = (), without: Collection[str] = ()) -> Verdict:
        """Judge what happened so far; jobs in ``without`` are not looked at."""
        self.history.read()
        return judge(
            accepted={job: at for job, at in self.accepted.items() if job not in without},
            runs=[run for run in self.history.runs if run.job not in without],
            faults=self.journal,
            dead=dead,
            uncertain=self.uncertain,
            broker_tail_s=self.broker_tail_s,
        )


class Celeriac(Arena):
    """Our own queue and workers."""

    system = "celeriac"

    def __init__(
        self, folder: Path, *, policy: dict[str, Any] | None = None, takes_back: bool = False, **more: Any
    ) -> None:
        super().__init__(folder, **more)
        self._policy = QueuePolicy.model_validate(policy or {})
        self._takes_back = takes_back
        """Whether the supervisor returns what a dead worker held, as `celeriac up` does; otherwise
        leases must run out, as when a node of a cluster is gone."""

    def open(self) -> None:
        self.queue = Queue(connect(self.server.url), "chaos", lease_ms=LEASE_S * 1000)
        self.queue.declare(self._policy)
        self.client = celeriac.Client(self.server.url)

    def close(self) -> None:
        self.client.close()
        self.queue.client.close()

    def command(self, pool: Pool, *options: object) -> Command:
        fixed = ["-m", "celeriac.cli", "worker", "-A", "tests.chaos.jobs:app", "-Q", "chaos"]
        fixed += ["--pool", pool, "--concurrency", str(SLOTS[pool]), "--lease", str(LEASE_S)]
        fixed += ["--log-level", "warning", *map(str, options)]
        return Command(
            lambda name: [sys.executable, *fixed, "--name", name],
            {
                "CELERIAC_BROKER_URL": self.server.url,
                "CHAOS_SIDE_FILE": str(self.history.path),
            },
        )

    def on_death(self, worker: Worker) -> None:
        if self._takes_back:
            for seen in self.queue.stats().workers:
                if seen.name.partition("/")[0] == worker.name:
                    self.queue.abandon(seen.name)

    def send(self, jobs: Sequence[Job]) -> None:
        receipt = self.client.send_many(
            "chaos", [celeriac.Job(job.task, (job.id, *job.args), id=job.id) for job in jobs]
        )
        assert receipt.accepted == len(jobs)
        self.accepted.update(dict.fromkeys((job.id for job in jobs), time.monotonic()))

    def send_surely(self, jobs: Sequence[Job]) -> None:
        """Publish jobs until the broker says that it has them, however often it goes away."""
        calls = [
            celeriac.Job(job.task, (job.id, *job.args), id=job.id, dedup_key=job.id) for job in jobs
        ]
        while True:
            try:
                receipt = self.client.send_many("chaos", calls)
            except (BulkInterrupted, RedisError):
                self.uncertain.update(job.id for job in jobs)
                time.sleep(0.02)
                continue
            assert not receipt.refused
            now = time.monotonic()
            for job in jobs:
                self.accepted.setdefault(job.id, now)
            return

    def drained(self, *, within_s: float = 30, forgetful: bool = False) -> QueueStats:
        """Wait until nothing is ready, leased or delayed; the conservation law must hold then.

        A ``forgetful`` broker need not have accepted what it said it had.
        """

        def empty() -> QueueStats | None:
            stats = self.queue.stats()
            return None if stats.unfinished else stats

        stats = eventually(
            empty, within_s=within_s, what=lambda: f"the queue is empty, it is stuck: {self.queue.stats()}"
        )
        assert stats.imbalance == 0, stats
        assert forgetful or stats.accepted == len(self.accepted), stats
        return stats

    def dead(self) -> dict[str, Any]:
        """The dead letters by job."""
        return {letter.id: letter for letter in self.queue.dead_letters()}
