"""Threads: messages run in a fixed number of threads; the main thread claims for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from celeriac.worker.consumer import Consumer
from celeriac.worker.pools.solo import close
from celeriac.worker.runner import AttemptRunner

logger = logging.getLogger(__name__)


def run_threads(consumer: Consumer, runner: AttemptRunner, *, concurrency: int) -> None:
    """Run messages in ``concurrency`` threads until the consumer closes."""
    threads = [
        consumer.machine.thread(partial(_serve, consumer, runner), name=f"celeriac-slot-{n}")
        for n in range(concurrency)
    ]
    for thread in threads:
        thread.start()
    keep_claiming(consumer)
    consumer.give_back()
    for _ in threads:
        consumer.inflight.waiting.put(None)
    for thread in threads:
        thread.join()
    close(consumer)


def keep_claiming(consumer: Consumer, on_arrival: Callable[[], None] | None = None) -> None:
    """Claim until the consumer closes; ``on_arrival`` is called when messages may have come."""
    while not consumer.closing.is_set():
        if not consumer.claim():
            # No room, or nothing came. Full: the next settling makes room.
            consumer.settler.settled_some.wait(0.05 if consumer.held else 0.0)
            consumer.settler.settled_some.clear()
        elif on_arrival is not None:
            on_arrival()


def _serve(consumer: Consumer, runner: AttemptRunner) -> None:
    waiting = consumer.inflight.waiting
    while (message := waiting.get()) is not None:
        if consumer.begin(message):
            consumer.finish(runner.run(message))
