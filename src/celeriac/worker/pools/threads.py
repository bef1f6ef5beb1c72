"""Threads: messages run in a fixed number of threads; the main thread claims for all of them."""

from __future__ import annotations

from functools import partial

from celeriac.worker.consumer import Consumer
from celeriac.worker.pools.base import InProcess, close, keep_claiming
from celeriac.worker.runner import AttemptRunner


class Threads(InProcess):
    """Runs each message in one of ``concurrency`` threads."""

    celerys = "threads"

    def serve(self) -> None:
        runner = self.context.runner(AttemptRunner, self.consumer)
        run_threads(self.consumer, runner, concurrency=self.context.options.concurrency)


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


def _serve(consumer: Consumer, runner: AttemptRunner) -> None:
    waiting = consumer.inflight.waiting
    while (message := waiting.get()) is not None:
        if consumer.begin(message):
            consumer.finish(runner.run(message))
