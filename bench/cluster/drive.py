"""Drives queues as hard as processes can, one each, and reads what the servers' processors had to do.

Messages are published, claimed and settled in batches by a client that does nothing else, so that the
server's part is as large as it gets. On few cores the clients still share these with the servers, and the
throughput says what all of them together do; the server's time for a message says where one node ends.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from bench.harness.usage import processor_s
from celeriac.broker.connection import connect
from celeriac.broker.message import DONE, NewMessage, Settlement
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy

BATCH = 128
BODY = b"x" * 500


@dataclass(frozen=True, slots=True)
class Driven:
    """What one stretch gave."""

    per_s: float
    """Messages through all queues a second: published, claimed and settled."""
    server_us: float
    """Processor time of all servers for each message, in microseconds."""
    client_us: float
    """The same of the clients."""
    busiest: float
    """The share of a core that the busiest server used."""


def drive(url: str, queues: Sequence[str], servers: Sequence[int], *, seconds: float) -> Driven:
    """Push messages through queues for so long; ``servers`` are the processes that serve them."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for queue in queues:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(url, queue, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    before, started = [processor_s(pid) for pid in servers], time.monotonic()
    for pipe in pipes:
        pipe.send(seconds)
    counts = [pipe.recv() for pipe in pipes]
    took = time.monotonic() - started
    used = [processor_s(pid) - was for pid, was in zip(servers, before, strict=True)]
    for process in processes:
        process.join()
    total = sum(count for count, _ in counts)
    return Driven(
        per_s=total / took,
        server_us=sum(used) / total * 1e6,
        client_us=sum(cpu for _, cpu in counts) / total * 1e6,
        busiest=max(used) / took,
    )


def _work(url: str, name: str, pipe: Connection) -> None:
    with connect(url) as client:
        queue = Queue(client, name)
        queue.declare(QueuePolicy())
        _round(queue, 0)
        pipe.send("ready")
        until = time.monotonic() + float(pipe.recv())
        cpu, count = time.process_time(), 0
        while time.monotonic() < until:
            count += 1
            _round(queue, count)
        pipe.send((count * BATCH, time.process_time() - cpu))


def _round(queue: Queue, number: int) -> None:
    queue.publish(
        [NewMessage(id=f"{number}-{at}", task="bench.nothing", body=BODY) for at in range(BATCH)]
    )
    messages = queue.claim("bench", count=BATCH).messages
    answers = queue.settle([Settlement(message, DONE, 1) for message in messages])
    assert answers == [True] * BATCH, "a message is lost"
