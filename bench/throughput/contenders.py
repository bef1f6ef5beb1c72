"""Who is compared: how each is started, and how one sees that it is done."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal

import redis

from bench.tasks import QUEUE

PoolName = Literal["solo", "threads", "prefork"]
CONCURRENCY: dict[PoolName, int] = {"solo": 1, "threads": 10, "prefork": 2}


@dataclass(frozen=True, slots=True)
class Stock:
    """Celery as it comes, at its best fair settings."""

    host: str
    name: str = "stock"

    settings = (
        "celery worker --without-gossip --without-mingle --without-heartbeat -l WARNING; acks_late, "
        "ignore_result, no events, no rate limits, worker_prefetch_multiplier 64"
    )

    @property
    def url(self) -> str:
        """The broker URL."""
        return f"redis://{self.host}/0"

    def worker(self, pool: PoolName) -> list[str]:
        """The command that starts one worker."""
        return [
            *(sys.executable, "-m", "celery", "-A", "bench.tasks:app", "worker", "-Q", QUEUE),
            *("-P", pool, "-c", str(CONCURRENCY[pool]), "-l", "WARNING", "-n", f"stock-{pool}@%h"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]

    def prepare(self, client: redis.Redis) -> None:
        """Nothing: a queue of stock Celery exists when it is used."""

    def unfinished(self, client: redis.Redis) -> int:
        """Messages that wait, or that a worker has not acknowledged."""
        pipeline = client.pipeline(transaction=True)
        pipeline.llen(QUEUE)
        pipeline.hlen("unacked")
        return sum(pipeline.execute())

    def finished(self, client: redis.Redis) -> int:
        """Messages that the workers say they have run."""
        from celery import Celery

        replies: Any = Celery(broker=self.url).control.inspect(timeout=3.0, limit=1).stats() or {}
        return sum(sum(reply["total"].values()) for reply in replies.values())


@dataclass(frozen=True, slots=True)
class Celeriac:
    """This project."""

    host: str
    name: str = "celeriac"

    settings = "celeriac worker --log-level warning; the same app, the queue's default policy"

    @property
    def url(self) -> str:
        """The broker URL."""
        return f"celeriac://{self.host}/0"

    def worker(self, pool: PoolName) -> list[str]:
        """The command that starts one worker."""
        return [
            *(sys.executable, "-m", "celeriac.cli", "worker", "-A", "bench.tasks:app", "-Q", QUEUE),
            *("--pool", pool, "--concurrency", str(CONCURRENCY[pool]), "--log-level", "warning"),
            *("--broker", self.url),
        ]

    def prepare(self, client: redis.Redis) -> None:
        """Declare the queue, as `celeriac up` or the operator would."""
        from celeriac.broker.queue import Queue
        from celeriac.spec.policies import QueuePolicy

        Queue(client, QUEUE).declare(QueuePolicy())

    def unfinished(self, client: redis.Redis) -> int:
        """Messages that wait, or that a worker has not settled: both are entries of the stream."""
        return int(client.xlen(f"celeriac:{{{QUEUE}}}:normal"))

    def finished(self, client: redis.Redis) -> int:
        """Messages that are done, as the broker's scripts counted them."""
        from celeriac.broker.queue import Queue

        stats = Queue(client, QUEUE).stats()
        if stats.imbalance:
            raise AssertionError(f"{stats.imbalance} messages are not accounted for")
        return stats.done


Contender = Stock | Celeriac
