"""Solo: messages run one after the other in the process's main thread."""

from __future__ import annotations

from queue import Empty

from celeriac.worker.consumer import Consumer
from celeriac.worker.runner import AttemptRunner

#: How long a closing pool tries to settle its last outcomes with the broker out of reach.
LAST_SETTLE_S = 5.0
#: With so many messages left of a claim, the next one is asked for, so that the server works meanwhile.
WORTH_ASKING = 8


def run_solo(consumer: Consumer, runner: AttemptRunner, *, most: int = 0) -> None:
    """Run messages until the consumer closes, or until ``most`` have run (0: no limit)."""
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
            if most and consumer.settler.count >= most:
                break
    close(consumer)


def close(consumer: Consumer) -> None:
    """Hand back what has not started, settle what has finished, and leave."""
    machine = consumer.machine
    deadline = machine.monotonic() + LAST_SETTLE_S
    # Settled for sure: leaving would make ready again what another thread is still settling.
    while not (consumer.give_back() and consumer.settler.settle(wait=True) and consumer.leave()):
        if machine.monotonic() >= deadline:
            break
        machine.sleep(0.1)
