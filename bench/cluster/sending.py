"""Sends one message at a time: to one server, to a cluster, and to it through redis-py's own client."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.cluster import RedisCluster as RedisPysCluster

from celeriac.broker.message import NewMessage
from celeriac.broker.queue import Queue
from celeriac.broker.url import parse
from celeriac.client.pinned import pinned_client

BODY = b"x" * 500


@dataclass(frozen=True, slots=True)
class Sent:
    """What one stretch gave."""

    per_s: float
    client_us: float
    """Processor time of the client for each message, in microseconds."""


def senders(server: str, cluster: str, queue: str) -> dict[str, Callable[[int], Sent]]:
    """Who sends, each for so many messages."""
    url = parse(cluster)
    theirs: Any = RedisPysCluster(host=url.hosts[0][0], port=url.hosts[0][1], password=url.password)
    return {
        "one server": _sender(pinned_client(parse(server)), queue),
        "cluster": _sender(pinned_client(url), queue),
        "cluster, by redis-py's client": _sender(theirs, queue),
    }


def _sender(client: Any, name: str) -> Callable[[int], Sent]:
    queue = Queue(client, name)
    queue.publish([NewMessage(id="first", task="bench.nothing", body=BODY)])

    def send(count: int) -> Sent:
        started, cpu = time.perf_counter(), time.process_time()
        for number in range(count):
            queue.publish([NewMessage(id=str(number), task="bench.nothing", body=BODY)])
        took, used = time.perf_counter() - started, time.process_time() - cpu
        queue.purge()
        return Sent(count / took, used / count * 1e6)

    return send
