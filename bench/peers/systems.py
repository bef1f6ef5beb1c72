"""The queues that are compared: how each is installed, started and emptied, and what it promises.

Settings are each project's own recommendation for throughput, else its defaults.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from bench.peers.install import Home
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy

QUEUE = "bench"
NODE_APP = Path(__file__).parent / "apps" / "bullmq.mjs"


@dataclass(frozen=True, slots=True)
class System:
    """One project. The app of the same name in `apps` has its jobs."""

    name: str
    #: What becomes of a job whose worker dies.
    keeps: str
    home: Home
    host: str

    @property
    def url(self) -> str:
        """The server, as this project's clients want it named."""
        return f"redis://{self.host}/0"

    def environment(self, variant: Variant) -> dict[str, str]:
        """What its processes need to know."""
        return {"BENCH_URL": self.url, "BENCH_SLOTS": str(variant.slots)}

    def program(self, name: str) -> str:
        """A command of the project's own environment."""
        return str(self.home.python(self.name).parent / name)

    def worker(self, variant: Variant) -> list[str]:
        """The command that starts one worker."""
        raise NotImplementedError

    def sender(self, way: str, job: str, count: int, *, size: int, rate: float) -> list[str]:
        """The command that sends."""
        numbers = (str(count), str(size), str(rate))
        python = str(self.home.python(self.name))
        return [python, "-m", "bench.peers.producer", self.name, way, job, *numbers]

    def prepare(self, client: redis.Redis) -> None:
        """Do on an empty server what has to be done once; nothing for most."""

    def unfinished(self, client: redis.Redis) -> int:
        """Jobs that wait or run, by the project's own records."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variant:
    """One way to run one system: a line of the tables."""

    system: System
    name: str
    slots: int
    #: About how many no-ops it runs a second: how much to send for a few seconds of work.
    guess: int
    #: Whether it stands for its system where the worker does not matter.
    sends: bool = False
    options: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)

    def environment(self, marks: Path | None = None) -> dict[str, str]:
        """What its processes need to know."""
        marked = {"BENCH_MARKS": str(marks or "")}
        return {**self.system.environment(self), **self.extra, **marked}

    def worker(self) -> list[str]:
        """The command that starts one worker."""
        return [*self.system.worker(self), *self.options]


class Celery(System):
    """Stock Celery; the settings are in bench/tasks.py."""

    def environment(self, variant: Variant) -> dict[str, str]:
        return {"BENCH_URL": self.url, "BENCH_BROKER": self.url}

    def worker(self, variant: Variant) -> list[str]:
        return [
            *(sys.executable, "-m", "celery", "-A", "bench.peers.apps.celery_app:app", "worker"),
            *("-Q", QUEUE, "-c", str(variant.slots), "-l", "WARNING"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]

    def unfinished(self, client: redis.Redis) -> int:
        pipeline = client.pipeline(transaction=True)
        for level in ("", "\x06\x163", "\x06\x166", "\x06\x169"):
            pipeline.llen(QUEUE + level)
        pipeline.hlen("unacked")
        return sum(pipeline.execute())


class Celeriac(System):
    """This project."""

    @property
    def url(self) -> str:
        return f"celeriac://{self.host}/0"

    def environment(self, variant: Variant) -> dict[str, str]:
        return {"BENCH_URL": self.url, "BENCH_BROKER": self.url}

    def worker(self, variant: Variant) -> list[str]:
        return [
            *(sys.executable, "-m", "celeriac.cli", "worker", "-A", "bench.tasks:app", "-Q", QUEUE),
            *("--concurrency", str(variant.slots), "--log-level", "warning", "--broker", self.url),
        ]

    def prepare(self, client: redis.Redis) -> None:
        Queue(client, QUEUE).declare(QueuePolicy())

    def unfinished(self, client: redis.Redis) -> int:
        stats = Queue(client, QUEUE).stats()
        if stats.imbalance:
            raise AssertionError(f"{stats.imbalance} messages are not accounted for")
        return stats.accepted - stats.done


class Dramatiq(System):
    """Its prefetch is twice the threads unless the environment says otherwise."""

    def worker(self, variant: Variant) -> list[str]:
        return [
            *(self.program("dramatiq"), "bench.peers.apps.dramatiq_app:broker"),
            *("--processes", "1", "--threads", str(variant.slots)),
        ]

    def unfinished(self, client: redis.Redis) -> int:
        return int(client.hlen("dramatiq:default.msgs"))


class Huey(System):
    """Threads, which its documentation recommends unless tasks compute."""

    def worker(self, variant: Variant) -> list[str]:
        return [
            *(self.program("huey_consumer"), "bench.peers.apps.huey_app.huey"),
            *("-w", str(variant.slots), "-k", "thread", "-n", "-q"),
        ]

    def unfinished(self, client: redis.Redis) -> int:
        return int(client.llen("huey.redis.bench"))


class Taskiq(System):
    """taskiq-redis on a stream, on uvloop, acknowledging what was executed."""

    def worker(self, variant: Variant) -> list[str]:
        return [
            *(self.program("taskiq"), "worker", "bench.peers.apps.taskiq_app:broker"),
            *("--workers", "1", "--max-async-tasks", str(variant.slots)),
            *("--ack-type", "when_executed", "--log-level", "WARNING"),
        ]

    def unfinished(self, client: redis.Redis) -> int:
        groups: Any = client.xinfo_groups("taskiq")
        return sum(int(group["lag"] or 0) + int(group["pending"]) for group in groups)


class Arq(System):
    """Polls every 10 ms: at its default of 500 ms it would be measured asleep."""

    def worker(self, variant: Variant) -> list[str]:
        return [self.program("arq"), "bench.peers.apps.arq_app.Worker"]

    def unfinished(self, client: redis.Redis) -> int:
        return int(client.zcard("arq:queue"))


class RQ(System):
    """A process for each job, or SimpleWorker, which runs jobs in its own."""

    def worker(self, variant: Variant) -> list[str]:
        return [self.program("rq"), "worker", QUEUE, "--url", self.url, "--quiet"]

    def unfinished(self, client: redis.Redis) -> int:
        return int(client.llen("rq:queue:bench")) + int(client.zcard("rq:wip:bench"))


class BullMQ(System):
    """In Node; finished jobs are removed at once."""

    def environment(self, variant: Variant) -> dict[str, str]:
        return {"BENCH_URL": self.url, "BENCH_NODE": str(self.home.node_folder)}

    def worker(self, variant: Variant) -> list[str]:
        return [self.home.node, str(NODE_APP), "work", str(variant.slots)]

    def sender(self, way: str, job: str, count: int, *, size: int, rate: float) -> list[str]:
        numbers = (str(count), str(size), str(rate))
        return [self.home.node, str(NODE_APP), "send", way, job, *numbers]

    def unfinished(self, client: redis.Redis) -> int:
        pipeline = client.pipeline(transaction=True)
        pipeline.llen("bull:bench:wait")
        pipeline.llen("bull:bench:active")
        return sum(pipeline.execute())
