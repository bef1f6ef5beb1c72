"""Sends one message at a time: to one server, to a cluster, and to it through redis-py's own client."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from redis.cluster import RedisCluster as RedisPysCluster

from celeriac.broker.message import NewMessage
from celeriac.broker.queue import Queue
from celeriac.broker.url import parse
from celeriac.client.direct import direct_client

BODY = b"x" * 500


def senders(server: str, cluster: str, queue: str) -> dict[str, Callable[[int], float]]:
    """Who sends, each for so many messages; the result is messages a second."""
    url = parse(cluster)
    theirs: Any = RedisPysCluster(host=url.hosts[0][0], port=url.hosts[0][1], password=url.password)
    return {
        "one server": _sender(direct_client(parse(server)), queue),
        "cluster": _sender(direct_client(url), queue),
        "cluster, by redis-py's client": _sender(theirs, queue),
    }


def _sender(client: Any, name: str) -> Callable[[int], float]:
    queue = Queue(client, name)
    queue.publish([NewMessage(id="first", task="bench.nothing", body=BODY)])

    def send(count: int) -> float:
        started = time.perf_counter()
        for number in range(count):
            queue.publish([NewMessage(id=str(number), task="bench.nothing", body=BODY)])
        per_s = count / (time.perf_counter() - started)
        queue.purge()
        return per_s

    return send
