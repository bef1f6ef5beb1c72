"""Solo: messages run one after the other in the process's main thread."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty

from celeriac.worker.consumer import Consumer
from celeriac.worker.options import WorkerOptions
from celeriac.worker.pools.base import InProcess, close
from celeriac.worker.runner import AttemptRunner

#: With so many messages left of a claim, the next one is asked for, so that the server works meanwhile.
WORTH_ASKING = 8


class Solo(InProcess):
    """Runs one message at a time."""

    celerys = "solo"

    @classmethod
    def check(cls, options: WorkerOptions) -> None:
        if options.concurrency != 1:
            raise ValueError("the solo pool runs one task at a time: concurrency must be 1")

    def serve(self) -> None:
        run_solo(self.consumer, self.context.runner(AttemptRunner, self.consumer))


def run_solo(
    consumer: Consumer, runner: AttemptRunner, *, enough: Callable[[], bool] | None = None
) -> None:
    """Run messages until the consumer closes, or until ``enough``, which is asked after each."""
    waiting = consumer.inflight.waiting
    low = 0
    while not consumer.closing.is_set():
        try:
            message = waiting.get_nowait()
        except Empty:
            consumer.settler.settle()
            if not consumer.claim() and consumer.held:
                # Full of what another thread is settling or handing back.
                consumer.settler.settled_some.wait(0.05)
                consumer.settler.settled_some.clear()
            low = waiting.qsize() // 2
            continue
        if low >= WORTH_ASKING and waiting.qsize() == low:
            consumer.claim_ahead()
        if message is not None and consumer.begin(message):
            consumer.finish(runner.run(message))
            if enough is not None and enough():
                break
    close(consumer)
