"""One process that sends, and prints how fast: `python -m bench.throughput.producer WAY COUNT [RATE]`.

apply_async   Celery's own call, in a loop          send        celeriac.Client.send, in a loop
batch         the same within kombu's batch()       send_many   celeriac.Client.send_many
paced         apply_async of `mark`, RATE a second
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from bench.jobs import payload
from bench.tasks import BROKER, QUEUE, app, nothing

KOMBU_BATCH = 500


def apply_async(count: int) -> None:
    """Celery's own call."""
    body = payload()
    for _ in range(count):
        nothing.apply_async((body,), queue=QUEUE)


def batch(count: int) -> None:
    """The best that stock Celery offers for many messages: kombu 5.7's batches."""
    body = payload()
    with app.producer_pool.acquire(block=True) as producer:
        for start in range(0, count, KOMBU_BATCH):
            with producer.batch():
                for _ in range(min(KOMBU_BATCH, count - start)):
                    nothing.apply_async((body,), queue=QUEUE, producer=producer, retry=False)


def send(count: int) -> None:
    """Celeriac's client, one by one."""
    from celeriac import Client

    body = payload()
    with Client(BROKER) as client:
        for _ in range(count):
            client.send(QUEUE, "bench.tasks.nothing", args=(body,))


def send_many(count: int) -> None:
    """Celeriac's client, in bulk."""
    from celeriac import Client, Job

    body = payload()
    with Client(BROKER) as client:
        receipt = client.send_many(
            QUEUE, (Job("bench.tasks.nothing", (body,)) for _ in range(count))
        )
    if receipt.accepted != count:
        raise AssertionError(f"{receipt.accepted} of {count} accepted")


def paced(count: int, rate: float) -> None:
    """At an even rate; whoever falls behind catches up."""
    start, mark = time.monotonic(), app.tasks["bench.tasks.mark"]
    for number in range(count):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        mark.apply_async((time.monotonic_ns(),), queue=QUEUE)


WAYS: dict[str, Callable[[int], None]] = {
    "apply_async": apply_async,
    "batch": batch,
    "send": send,
    "send_many": send_many,
}


def main(way: str, count: int, rate: float = 0.0) -> None:
    """Send, and print messages a second; the first few, which connect, are not counted."""
    if way == "paced":
        paced(count, rate)
        print(json.dumps({"rate": rate}))
        return
    warm = min(200, count // 10)
    WAYS[way](warm)
    start = time.perf_counter()
    WAYS[way](count - warm)
    print(json.dumps({"rate": (count - warm) / (time.perf_counter() - start)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:]))
