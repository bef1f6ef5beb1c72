"""What a worker asks of its pool, and what pools have in common."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from celery import Celery, signals

from celeriac.broker.message import Message
from celeriac.worker.consumer import Consumer
from celeriac.worker.context import WorkerContext
from celeriac.worker.housekeeper import Housekeeper
from celeriac.worker.options import WorkerOptions

logger = logging.getLogger(__name__)

#: A pool whose threads have not moved for so long is not live. Well above the broker's time-out, so
#: that an outage makes a worker unready and never dead.
STALE_S = 60.0
#: How long a closing pool tries to settle its last outcomes with the broker out of reach.
LAST_SETTLE_S = 5.0


class Pool(ABC):
    """Runs the messages of one worker process.

    Only `run` belongs to the main thread; everything else may be called from any thread, and `drain` and
    `stop_at_once` from signal handlers too.
    """

    #: Celery's name of a pool of the same kind, whose class tells receivers of signals which kind it is.
    celerys: ClassVar[str]
    #: Whose time limits it cannot keep, and what to do instead.
    uninterrupted: ClassVar[str] = "a task"
    remedy: ClassVar[str] = "use Prefork to keep them"

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        self.consumer = context.consumer(slots=self.slots)

    # --- what is known of a pool before there is one --------------------------------------------

    @classmethod
    def check(cls, options: WorkerOptions) -> None:
        """Raise ValueError when it cannot do what the options say."""
        if options.concurrency < 1:
            raise ValueError("concurrency must be at least 1")

    @classmethod
    def interrupts(cls, task: Any) -> bool:
        """Whether it can stop a task that runs, and so keep its time limits."""
        return False

    @classmethod
    def warn_of_limits(cls, app: Celery, *, soft_s: float, hard_s: float) -> None:
        """Say whose time limits it will not keep. The limits given are those of all tasks, in seconds."""
        tasks = [task for name, task in app.tasks.items() if not name.startswith("celery.")]
        unkept = _declared(
            [task for task in tasks if not cls.interrupts(task)], soft_s=soft_s, hard_s=hard_s
        )
        if unkept:
            text = "the %s pool cannot interrupt %s: the time limits of %s are not kept; %s"
            logger.warning(text, cls.__name__.lower(), cls.uninterrupted, unkept, cls.remedy)

    # --- life -----------------------------------------------------------------------------------

    @abstractmethod
    def run(self, started: Callable[[], None]) -> None:
        """Run messages until the consumer closes; call ``started`` once it is possible to look at it."""

    def drain(self) -> None:
        """Start the end: claim nothing more, finish what runs in the grace time, hand back the rest."""
        self.consumer.closing.set()

    @abstractmethod
    def stop_at_once(self) -> None:
        """Cut a drain short: hand back what runs."""

    # --- how it is ------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """How many messages this very process runs at once."""
        return self.context.options.concurrency

    @property
    def quiet(self) -> AbstractContextManager[Any]:
        """What threads beside the pool must hold while they do more than wait."""
        return nullcontext()

    @property
    @abstractmethod
    def beat(self) -> float:
        """When its slowest thread last moved, in monotonic seconds."""

    @property
    def trouble(self) -> str:
        """Why only a restart helps; empty while there is progress."""
        stale = time.monotonic() - self.beat >= STALE_S
        return f"no progress for {STALE_S:.0f} s" if stale else ""

    @property
    def finished(self) -> int:
        """How many messages it has run to the end."""
        return self.consumer.settler.count

    def running(self) -> list[Message]:
        """The messages that run now."""
        return [message for message, _ in dict(self.consumer.inflight.running).values()]

    def stats(self) -> dict[str, Any]:
        """What ``inspect stats`` shows beside its name and slots."""
        return {}

    # --- messages that must not go on -----------------------------------------------------------

    def terminate(self, message_id: str) -> bool:
        """Stop a message that runs, which is then discarded as revoked: whether it was stopped."""
        return False

    def stop_taken(self, message: Message) -> bool:
        """Stop a message whose lease is somebody else's by now: whether it can."""
        return False


class InProcess(Pool):
    """A pool whose messages run in this very process, with a housekeeper beside them."""

    def __init__(self, context: WorkerContext) -> None:
        super().__init__(context)
        self.consumer.inflight.stop_taken = self.stop_taken
        self.housekeeper = Housekeeper(self.consumer, parent=context.parent, on_tick=self.tick)

    def run(self, started: Callable[[], None]) -> None:
        self.prepare()
        self.housekeeper.beat = time.monotonic()  # the app may have taken its time until now
        self.housekeeper.start()
        signals.worker_process_init.send(sender=None)
        started()
        self.serve()
        self.housekeeper.stop()

    def prepare(self) -> None:
        """Make what others may look at."""

    @abstractmethod
    def serve(self) -> None:
        """Run messages until the consumer closes."""

    def tick(self) -> None:
        """Do what is to be done a few times a second. The housekeeper's thread calls this."""

    def drain(self) -> None:
        self.housekeeper.close_by(time.monotonic() + self.context.options.drain_s)
        super().drain()

    def stop_at_once(self) -> None:
        # A signal handler may have interrupted the broker client: the housekeeper's thread does the talking.
        self.housekeeper.close_by(time.monotonic())

    @property
    def beat(self) -> float:
        return self.housekeeper.beat


def keep_claiming(consumer: Consumer, on_arrival: Callable[[], None] | None = None) -> None:
    """Claim until the consumer closes; ``on_arrival`` is called when messages may have come."""
    while not consumer.closing.is_set():
        if not consumer.claim():
            # No room, or nothing came. Full: the next settling makes room.
            consumer.settler.settled_some.wait(0.05 if consumer.held else 0.0)
            consumer.settler.settled_some.clear()
        elif on_arrival is not None:
            on_arrival()


def close(consumer: Consumer) -> None:
    """Hand back what has not started, settle what has finished, and leave."""
    machine = consumer.machine
    deadline = machine.monotonic() + LAST_SETTLE_S
    # Settled for sure: leaving would make ready again what another thread is still settling.
    while not (consumer.give_back() and consumer.settler.settle(wait=True) and consumer.leave()):
        if machine.monotonic() >= deadline:
            break
        machine.sleep(0.1)


def _declared(tasks: list[Any], *, soft_s: float, hard_s: float) -> str:
    own = sorted(task.name for task in tasks if task.time_limit or task.soft_time_limit)
    who = ["the queue"] if tasks and (soft_s or hard_s) else []
    if own:
        more = f" and {len(own) - 3} more" if len(own) > 3 else ""
        who.append(f"task {', '.join(own[:3])}{more}")
    return " and ".join(who)
