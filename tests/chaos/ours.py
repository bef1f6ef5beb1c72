"""Celeriac in the arena: our own queue and workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

import celeriac
from celeriac import BulkInterrupted
from celeriac.broker.connection import connect
from celeriac.broker.message import DeadMessage, QueueStats
from celeriac.broker.queue import Queue
from celeriac.chaos.processes import Command, Worker, eventually
from celeriac.spec.policies import QueuePolicy
from tests.chaos.arena import LEASE_S, ROOT, Arena, Job, Pool


class Celeriac(Arena):
    """Our own queue and workers."""

    system = "celeriac"
    app = "tests.chaos.jobs:app"

    def __init__(
        self,
        folder: Path,
        *,
        policy: dict[str, Any] | None = None,
        takes_back: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(folder, **more)
        self._policy = QueuePolicy.model_validate(policy or {})
        self._takes_back = takes_back
        """Whether the supervisor returns what a dead worker held, as `celeriac up` does; otherwise
        leases must run out, as when a node of a cluster is gone."""

    def open(self) -> None:
        self.queue = Queue(connect(self.server.url), "chaos", lease_ms=LEASE_S * 1000)
        self.queue.declare(self._policy)
        self.client = celeriac.Client(self.url)

    def close(self) -> None:
        self.client.close()
        self.queue.client.close()

    def command(self, pool: Pool, *options: object) -> Command:
        return self.celeriac_worker(
            pool, "-Q", "chaos", *options, app=self.app, url=self.url, folder=ROOT
        )

    def on_death(self, worker: Worker) -> None:
        if self._takes_back:
            for seen in self.queue.stats().workers:
                if seen.name.partition("/")[0] == worker.name:
                    self.queue.abandon(seen.name)

    def send(self, jobs: Sequence[Job]) -> None:
        calls = [
            celeriac.Job(job.task, (job.id, *job.args), id=job.id, priority=job.priority)
            for job in jobs
        ]
        receipt = self.client.send_many("chaos", calls)
        assert receipt.accepted == len(jobs)
        self.priorities.update((job.id, job.priority) for job in jobs if job.priority != "normal")
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
            if receipt.not_replicated:
                self.uncertain.update(job.id for job in jobs)
                continue
            now = time.monotonic()
            for job in jobs:
                self.accepted.setdefault(job.id, now)
            return

    def waiting(self) -> int:
        return self.queue.stats().unfinished

    def drained(self, *, within_s: float = 30, forgetful: bool = False) -> QueueStats:
        """Wait until nothing is ready, leased or delayed; the conservation law must hold then.

        A ``forgetful`` broker need not have accepted what it said it had.
        """

        def empty() -> QueueStats | None:
            stats = self.queue.stats()
            return None if stats.unfinished else stats

        stats = eventually(
            empty,
            within_s=within_s,
            what=lambda: f"the queue is empty, it is stuck: {self.queue.stats()}",
        )
        broken = self.broken_laws(stats, forgetful=forgetful)
        assert not broken, broken
        return stats

    def dead(self) -> dict[str, DeadMessage]:
        """The dead letters by job."""
        return {letter.id: letter for letter in self.queue.dead_letters()}
