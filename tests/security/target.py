"""A server with a queue, real workers, and what an attacker with a connection of their own may do to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import celeriac
from celeriac.broker.message import DeadMessage, NewMessage, QueueStats
from celeriac.chaos.processes import Command, Worker, WorkerSet, eventually
from celeriac.client.job import message_of
from celeriac.spec.policies import QueuePolicy
from tests.chaos.arena import Pool
from tests.chaos.ours import Celeriac


class Target(Celeriac):
    """An arena whose workers run the app of `jobs.py`, with an environment of their own."""

    app = "tests.security.jobs:app"

    def __init__(
        self, folder: Path, *, environment: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(folder, **more)
        self.environment = dict(environment or {})

    def command(self, pool: Pool, *options: object) -> Command:
        plain = super().command(pool, *options)
        return replace(plain, environment={**plain.environment, **self.environment})

    # --- what comes in --------------------------------------------------------------------------

    def call(self, job: str, task: str = "chaos.work", *more: Any) -> NewMessage:
        """A message as the client makes it, not signed."""
        return message_of(celeriac.Job(task, (job, *more), id=job))

    def put(self, *messages: NewMessage) -> None:
        """Publish as somebody without any key does."""
        for message in messages:
            (receipt,) = self.queue.publish([message])
            assert receipt.status == "accepted"

    def fields(self, message: NewMessage, **changes: str | bytes) -> dict[Any, Any]:
        """A message's fields as they lie in a stream, some of them changed."""
        plain = {"p": "n", "i": message.id, "t": message.task, "q": "1", "a": "0", "d": "0"}
        rest = {"l": "0", "x": "0", "y": "", "h": message.head, "b": message.body}
        return {**plain, **rest, **changes}

    def xadd(self, fields: Mapping[Any, Any], stream: str = "normal") -> None:
        """Write an entry into one of the queue's streams by hand."""
        self.queue.client.xadd(self.queue.keys.base + stream, dict(fields))

    def renamed(self, message: NewMessage, id_: str) -> NewMessage:
        """The same message under another id."""
        return replace(message, id=id_)

    def policy_of(self, sections: Mapping[str, Any]) -> QueuePolicy:
        """A policy, in the words of the YAML."""
        return QueuePolicy.model_validate({"deadLetter": {"unknownTaskSeconds": 0}, **sections})

    # --- what came of it ------------------------------------------------------------------------

    def ran(self) -> set[str]:
        """The jobs that were started."""
        return {run.job for run in self.history.read().runs}

    def letter(self, job: str, *, within_s: float = 20) -> DeadMessage:
        """Wait for a dead letter by its message's id."""
        return eventually(
            lambda: self.dead().get(job),
            within_s=within_s,
            what=lambda: f"{job} dead: {self.trouble()}",
        )

    def settled(self, *, within_s: float = 30, law: bool = True) -> QueueStats:
        """Wait until nothing is unfinished; the conservation law must hold then, unless told otherwise."""

        def empty() -> QueueStats | None:
            stats = self.queue.stats()
            return None if stats.unfinished else stats

        stats = eventually(empty, within_s=within_s, what=lambda: f"settled: {self.trouble()}")
        assert stats.imbalance == 0 or not law, stats
        return stats

    def trouble(self) -> str:
        """What the workers said."""
        return "\n".join(
            worker.log[-1500:] for worker_set in self.worker_sets for worker in worker_set.workers
        )

    def serves(self, job: str, worker_set: WorkerSet) -> None:
        """Hold that an honest message still runs, and that no worker was lost."""
        self.put(self.call(job))
        eventually(
            lambda: job in self.ran(), within_s=20, what=lambda: f"{job} runs: {self.trouble()}"
        )
        assert all(worker.code is None for worker in worker_set.workers), self.trouble()
        assert not worker_set.ended


def peak_kib(worker: Worker) -> int:
    """The most memory that a worker's processes ever had resident, together, in KiB."""
    return sum(_status(pid, "VmHWM") for pid in [worker.pid, *worker.children()])


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {name} of process {pid}")
