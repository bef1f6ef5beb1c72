"""Celeriac on a Redis Cluster: queues and workers on every primary, and the harm that may come to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis
from redis.exceptions import RedisError

import celeriac
from celeriac import BrokerRefuses, BulkInterrupted
from celeriac.broker.connection import connect
from celeriac.broker.message import QueueStats
from celeriac.broker.queue import Queue
from celeriac.chaos.faults import Fault
from celeriac.chaos.ledger import Ledger, broken_laws
from celeriac.chaos.processes import Command, Worker, eventually
from celeriac.chaos.scene import LEASE_S, Job, Pool, Scene, work
from celeriac.spec.policies import QueuePolicy
from tests.chaos.arena import ROOT
from tests.redis_cluster import PASSWORD, Node, RedisCluster, slot_of_queue


class Replicated(threading.Thread):
    """Watches how far replicas are: until when (monotonic seconds) everything written is known to them."""

    def __init__(self, cluster: RedisCluster) -> None:
        super().__init__(name="replicated", daemon=True)
        self._clients = {node.port: node.client for node in cluster.nodes}
        self._told: dict[int, list[tuple[float, int]]] = {}
        self._over = threading.Event()
        self.until: dict[int, float] = {}
        """By the port of the primary."""

    def run(self) -> None:
        while not self._over.wait(0.01):
            for port, client in self._clients.items():
                try:
                    self._look(port, client)
                except RedisError:
                    self._told.pop(port, None)

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self.join()
        for client in self._clients.values():
            client.close()

    def _look(self, port: int, client: redis.Redis) -> None:
        at = time.monotonic()
        role: Any = client.execute_command("ROLE")
        if role[0] == b"master":
            self._told.setdefault(port, []).append((at, role[1]))
            return
        primary, has = role[2], role[4]
        told = self._told.get(primary, [])
        while told and told[0][1] <= has:
            self.until[primary] = told.pop(0)[0]


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a primary. Times are monotonic seconds."""

    at: float
    queues: frozenset[str]
    """What lay on it."""
    kept_until: float
    """What it had accepted before, its replica knows."""


class Clustered(Scene):
    """Six queues, two on each of three primaries."""

    system = "celeriac"

    def __init__(
        self,
        folder: Path,
        *,
        seed: str,
        binary: str,
        options: Sequence[str] = (),
        query: str = "",
    ) -> None:
        super().__init__(folder, seed=seed)
        self.cluster = RedisCluster(folder / "cluster", binary=binary, options=options)
        self._query = query
        """Of the producer's URL."""
        self.deaths: list[Death] = []
        self.moves = 0
        self.refusals = 0
        """How often a node took no messages for want of a replica."""
        self.doubts = 0
        """Messages that were accepted, and of which no replica was known to have them."""

    def __enter__(self) -> Self:
        self.cluster.__enter__()
        try:
            self._furnish()
        except BaseException:
            self.cluster.__exit__()
            raise
        return self

    def _furnish(self) -> None:
        self.url = self.cluster.url
        self._redis = connect(self.url)
        self.client = celeriac.Client(self.url + self._query)
        names = [name for two in self.cluster.names_on_each(2, "chaos") for name in two]
        self.queues = {name: Queue(self._redis, name, lease_ms=LEASE_S * 1000) for name in names}
        for queue in self.queues.values():
            queue.declare(QueuePolicy())
        self._replicated = Replicated(self.cluster)
        self._replicated.start()

    def __exit__(self, *_: object) -> None:
        for worker_set in self.worker_sets:
            worker_set.end()
        self._replicated.stop()
        self.client.close()
        self._redis.close()
        self.cluster.__exit__()

    def command(self, pool: Pool, *options: object) -> Command:
        return self.celeriac_worker(
            pool, *options, app="tests.chaos.jobs:app", url=self.url, folder=ROOT
        )

    def on_death(self, worker: Worker) -> None:
        """Nobody is there who would take back what it held."""

    # --- sending --------------------------------------------------------------------------------

    def jobs(self, number: int, queue: str, *, ms: Any = 0, prefix: str = "") -> list[Job]:
        """Jobs for one queue, which their names tell."""
        return work(number, ms=ms, prefix=f"{queue}:{prefix}")

    def send(self, jobs: Sequence[Job]) -> None:
        self.send_surely(jobs)

    def send_surely(self, jobs: Sequence[Job]) -> None:
        """Publish jobs of one queue until the broker says that it has them."""
        queue = queue_of(jobs[0].id)
        calls = [
            celeriac.Job(job.task, (job.id, *job.args), id=job.id, dedup_key=job.id) for job in jobs
        ]
        while True:
            try:
                receipt = self.client.send_many(queue, calls)
            except (BulkInterrupted, RedisError) as error:
                refused = isinstance(error.__cause__ or error, BrokerRefuses)
                self.refusals += refused
                self.uncertain.update(() if refused else (job.id for job in jobs))
                time.sleep(0.02)
                continue
            assert not receipt.refused
            now = time.monotonic()
            for job, its in zip(jobs, receipt.receipts, strict=True):
                if its.replicated:
                    self.accepted.setdefault(job.id, now)
                else:
                    self.doubts += 1
                    self.uncertain.add(job.id)
            return

    def waiting(self) -> int:
        return sum(queue.stats().unfinished for queue in self.queues.values())

    # --- harm -----------------------------------------------------------------------------------

    def move(self, queue: str) -> None:
        """Move a queue's slot to another primary."""
        slot = slot_of_queue(queue)
        owner = self.cluster.owner(slot)
        others = [node for node in self.cluster.primaries() if node is not owner]
        target = self.random.choice(others)
        self.cluster.move(slot, target)
        assert self.cluster.owner(slot) is target
        self.moves += 1

    def fail_over(self, queue: str) -> Node:
        """SIGKILL the primary of a queue, and wait for its replica to take over; return the dead one."""
        slot = slot_of_queue(queue)
        victim = self.cluster.owner(slot)
        its = [name for name in self.queues if self.owner(name) is victim]
        victim.kill()
        at = time.monotonic()
        # The replica may have read more since than was seen, never less.
        self.deaths.append(Death(at, frozenset(its), self._replicated.until[victim.port]))
        assert self.cluster.wait_failover(slot) is not victim
        self.journal.append(Fault(kind="failover", at=at, until=time.monotonic()))
        return victim

    def owner(self, queue: str) -> Node:
        """The primary of a queue."""
        return self.cluster.owner(slot_of_queue(queue))

    def forgotten(self, lost: Collection[str]) -> tuple[list[str], float]:
        """Which lost jobs a replica had, and how old the oldest other was when its primary died (s)."""

        def age(job: str) -> float:
            sent, queue = self.accepted[job], queue_of(job)
            deaths = [death for death in self.deaths if queue in death.queues]
            # An answer that was on its way when the primary died is noted after that.
            mine = (it for it in deaths if it.kept_until <= sent <= it.at + 0.1)
            return next((max(0.0, it.at - sent) for it in mine), -1.0)

        ages = {job: age(job) for job in lost}
        known = [job for job, its in ages.items() if its < 0]
        return known, max(ages.values(), default=0.0)

    def recovery_s(self) -> float:
        """The longest time from a primary's death to the next end of a job that lay on it."""
        runs = self.history.read().runs

        def back(death: Death) -> float:
            ends = (
                run.finished
                for run in runs
                if run.finished and run.finished > death.at and queue_of(run.job) in death.queues
            )
            return min(ends, default=death.at) - death.at

        return max(map(back, self.deaths), default=0.0)

    @contextmanager
    def cut_off(self, queue: str) -> Iterator[None]:
        """Keep the replica of a queue's primary from reading anything new, until it takes over."""
        primary = self.owner(queue)
        (replica,) = (node for node in self.cluster.nodes if replicates(node, primary))
        replica.ask("CONFIG SET", "masterauth", "wrong")
        primary.ask("CLIENT KILL", "TYPE", "replica")
        eventually(lambda: not primary.ask("ROLE")[2], within_s=10, what="the link is cut")
        try:
            yield
        finally:
            replica.ask("CONFIG SET", "masterauth", PASSWORD)

    # --- the end --------------------------------------------------------------------------------

    def drained(self, *, within_s: float, lost: bool) -> dict[str, QueueStats]:
        """Wait until all queues are empty; the conservation law must hold in each.

        ``lost``: a failover forgot messages, so the broker may count fewer than the producer.
        """
        eventually(lambda: not self.waiting(), within_s=within_s, what=lambda: str(self.waiting()))
        found = {name: queue.stats() for name, queue in self.queues.items()}
        runs = self.history.read().runs
        for name, stats in found.items():
            broken = broken_laws(
                Ledger.of(stats),
                accepted=[job for job in self.accepted if queue_of(job) == name],
                uncertain=[job for job in self.uncertain if queue_of(job) == name],
                runs=[run for run in runs if queue_of(run.job) == name],
                forgetful=lost,
            )
            assert not broken, broken
        return found


def replicates(node: Node, primary: Node) -> bool:
    """Whether a node is the other's replica."""
    role = node.ask("ROLE")
    return bool(role[0] == b"slave" and role[2] == primary.port)


def queue_of(job: str) -> str:
    """The queue that a job was sent to."""
    return job.partition(":")[0]
