"""Where faults happen: numbered jobs, workers, the evidence, and the hand that does harm.

A scene knows nothing of brokers: whoever sets it up says how to send jobs and how to start a worker.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any, Literal

from celeriac.broker.message import QueueStats
from celeriac.chaos.checker import Verdict, judge
from celeriac.chaos.faults import Fault
from celeriac.chaos.ledger import Ledger, broken_laws
from celeriac.chaos.processes import COROUTINES, Command, Worker, WorkerSet, eventually
from celeriac.chaos.sidefile import SIDE_FILE, History
from celeriac.spec.pools import POOLS

#: A pool's name on a command line.
Pool = str
#: Tasks at once in one worker.
SLOTS: dict[Pool, int] = {**dict.fromkeys(POOLS, 10), "solo": 1, "prefork": 2}
#: As short as a worker takes it, so that nobody need wait long for a dead worker's messages.
LEASE_S = 2


@dataclass(frozen=True, slots=True)
class Job:
    """A uniquely numbered call of a task; its id is the message's and its first argument."""

    id: str
    task: str = "chaos.work"
    args: tuple[Any, ...] = ()
    priority: Literal["high", "normal", "low"] = "normal"


def work(number: int, *, ms: Callable[[], float] | float = 0, prefix: str = "j") -> list[Job]:
    """Jobs that do nothing for ``ms`` milliseconds each."""
    each = ms if callable(ms) else lambda: ms
    return [Job(f"{prefix}{n:06}", args=(round(each(), 2),)) for n in range(number)]


class Scene(ABC):
    """One queue of one system, and all that is known of its jobs."""

    system: str

    def __init__(self, folder: Path, *, seed: str) -> None:
        self.folder = folder
        self.random = Random(seed)
        self.history = History(folder / f"{self.system}-runs")
        self.journal: list[Fault] = []
        self.accepted: dict[str, float] = {}
        self.uncertain: set[str] = set()
        self.priorities: dict[str, str] = {}
        """Those of jobs that are not normal."""
        self.worker_sets: list[WorkerSet] = []
        self.broker_tail_s = 0.0

    @abstractmethod
    def command(self, pool: Pool, *options: object) -> Command:
        """How to start a worker."""

    def celeriac_worker(
        self, pool: Pool, *options: object, app: str, url: str, folder: Path | None = None
    ) -> Command:
        """How to start a worker of ours that notes what it runs; ``folder`` is where the app lies."""
        fixed = ["-m", "celeriac.cli", "worker", "-A", app, "--pool", pool]
        fixed += ["--concurrency", str(SLOTS[pool]), "--lease", str(LEASE_S)]
        fixed += ["--log-level", "warning", *map(str, options)]
        environment = {"CELERIAC_BROKER_URL": url, SIDE_FILE: str(self.history.path.resolve())}
        if pool == "asyncio":  # where functions would only be another pool of threads
            environment[COROUTINES] = "1"
        return Command(lambda name: [sys.executable, *fixed, "--name", name], environment, folder)

    def broken_laws(self, stats: QueueStats, *, forgetful: bool = False) -> list[str]:
        """Say which laws the broker's counts break; see `celeriac.chaos.ledger.broken_laws`."""
        return broken_laws(
            Ledger.of(stats),
            accepted=self.accepted,
            uncertain=self.uncertain,
            runs=self.history.read().runs,
            forgetful=forgetful,
        )

    @abstractmethod
    def send(self, jobs: Sequence[Job]) -> None:
        """Publish jobs, and note when the broker said that it has them."""

    @abstractmethod
    def waiting(self) -> int:
        """How many messages are not finished, as far as the broker knows."""

    @abstractmethod
    def on_death(self, worker: Worker) -> None:
        """What a supervisor does beside starting another worker."""

    @contextmanager
    def loaded(self, jobs: int, *, ms: Callable[[], float]) -> Iterator[None]:
        """Send jobs of ``ms`` milliseconds, and more as long as the block takes, on machines of any speed."""
        self.send(work(jobs, ms=ms))
        over, rounds = threading.Event(), count()

        def top_up() -> None:
            while not over.wait(0.05):
                if self.waiting() < 200:
                    self.send(work(100, ms=ms, prefix=f"more{next(rounds)}-"))

        thread = threading.Thread(target=top_up, name="load", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    # --- workers --------------------------------------------------------------------------------

    def worker_set(
        self, pool: Pool, *options: object, size: int = 1, supervised: bool = False
    ) -> WorkerSet:
        """Start workers and wait until they serve."""
        worker_set = WorkerSet(
            size=size,
            command=self.command(pool, *options),
            folder=self.folder,
            prefix=f"{self.system}-{pool}-{len(self.worker_sets)}",
            on_death=self.on_death,
        )
        self.worker_sets.append(worker_set)
        return worker_set.start(supervised=supervised)

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

    def catch_busy(self, worker_set: WorkerSet, *, within_s: float = 10) -> Worker:
        """Wait for a worker that is at work now; one by chance if there are several."""

        def busy() -> list[Worker]:
            self.history.read()
            return [worker for worker in worker_set.serving if self.history.busy(worker.group)]

        return self.random.choice(eventually(busy, within_s=within_s, what="a worker at work"))

    def busy_child(self, worker: Worker) -> int:
        """Wait for a child process of a worker that is at work now, and return its id."""
        killed = {fault.pid for fault in self.journal}

        def busy() -> list[int]:
            self.history.read()
            alive = set(worker.children()) - killed
            return [pid for pid in alive if self.history.busy(worker.group, pid=pid)]

        return self.random.choice(eventually(busy, within_s=10, what="a child at work"))

    # --- judgement ------------------------------------------------------------------------------

    def finished(self, jobs: Collection[str]) -> bool:
        """Whether all these jobs have been finished by some run."""
        return self.history.read().finished.issuperset(jobs)

    def ended_since(self, at: float) -> bool:
        """Whether some run has finished since then."""
        return any(run.finished and run.finished > at for run in reversed(self.history.read().runs))

    def verdict(
        self,
        *,
        dead: Collection[str] = (),
        without: Collection[str] = (),
        waiting: Collection[str] = (),
        ordered: bool = False,
    ) -> Verdict:
        """Judge what happened so far; jobs in ``without`` are not looked at.

        ``ordered``: one consumer with one slot at a time served the queue, so that its order can be judged.
        """
        self.history.read()
        return judge(
            accepted={job: at for job, at in self.accepted.items() if job not in without},
            runs=[run for run in self.history.runs if run.job not in without],
            faults=self.journal,
            dead=dead,
            waiting=waiting,
            uncertain=self.uncertain,
            priorities=self.priorities if ordered else None,
            until=time.monotonic() if waiting else None,
            broker_tail_s=self.broker_tail_s,
        )
