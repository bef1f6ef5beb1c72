"""A queue of a fresh name on somebody's broker, with workers of its own: nothing else there is touched."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from celeriac import BulkInterrupted, Client
from celeriac import Job as Call
from celeriac.broker.keys import index_key
from celeriac.broker.message import QueueStats
from celeriac.broker.queue import Queue
from celeriac.chaos.processes import Command, Worker, eventually
from celeriac.chaos.scene import LEASE_S, Job, Pool, Scene
from celeriac.spec.policies import QueuePolicy

#: A healthy job may meet several deaths in a row; none of them is its fault.
_POLICY = QueuePolicy.model_validate({"deadLetter": {"maxDeliveries": 1000}})
_STREAMS = 4  # the first keys of a queue
_PAGE = 1000


class Trial(Scene):
    """Jobs and workers on a queue that exists for this trial only.

    Entering declares the queue, leaving ends the workers and deletes its keys, whatever happened. The
    client must return bytes. redis-py's errors pass through.
    """

    system = "celeriac"

    def __init__(
        self, folder: Path, *, seed: str, client: redis.Redis, prefix: str, url: str
    ) -> None:
        super().__init__(folder, seed=seed)
        self._url = url
        self._client = Client(client, prefix=prefix)
        name = f"chaos-{secrets.token_hex(6)}"
        self.queue = Queue(client, name, prefix=prefix, lease_ms=LEASE_S * 1000)

    def __enter__(self) -> Self:
        self.queue.declare(_POLICY)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker_set in self.worker_sets:
            worker_set.end()
        # An error that is on its way says more than a second one about the same broker.
        with suppress(*([redis.RedisError] if error is not None else [])):
            self.queue.client.delete(*self.queue.keys.all)
            self.queue.client.srem(index_key(self.queue.prefix), self.queue.name)

    def command(self, pool: Pool, *options: object) -> Command:
        return self.celeriac_worker(
            pool, "-Q", self.queue.name, *options, app="celeriac.chaos.jobs:app", url=self._url
        )

    def send(self, jobs: Sequence[Job]) -> None:
        calls = [Call(job.task, (job.id, *job.args), id=job.id) for job in jobs]
        self.uncertain.update(job.id for job in jobs)
        try:
            self._client.send_many(self.queue.name, calls)
        except BulkInterrupted as error:
            raise error.__cause__ or error from None
        now = time.monotonic()
        self.accepted.update((job.id, now) for job in jobs)
        self.uncertain.difference_update(job.id for job in jobs)

    def waiting(self) -> int:
        return self.queue.stats().unfinished

    def on_death(self, worker: Worker) -> None:
        """Leave it to the leases, as when a node of a cluster is gone."""

    def drained(self, *, within_s: float) -> tuple[QueueStats, set[str]]:
        """Wait until the queue is empty; return its counts, and the jobs that it still holds after all."""
        with suppress(TimeoutError):
            eventually(lambda: not self.waiting(), within_s=within_s)
        stats = self.queue.stats()
        return stats, self._held() if stats.unfinished else set()

    def _held(self) -> set[str]:
        """The jobs in the queue's streams, ready or leased."""
        held: set[str] = set()
        for stream in self.queue.keys.all[:_STREAMS]:
            after = "-"
            while rows := self._page(stream, after):
                held.update(fields[b"i"].decode() for _, fields in rows if b"i" in fields)
                after = f"({rows[-1][0].decode()}"
        return held

    def _page(self, stream: str, after: str) -> Any:
        return self.queue.client.xrange(stream, after, count=_PAGE)
