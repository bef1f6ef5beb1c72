"""A queue that answers what the test says, and a machine whose time passes where somebody waits.

Neither is a twin of anything: the queue keeps no messages, and nothing runs at the same time.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count as counted
from typing import Any, Literal, cast

from celery import Celery, signals

from celeriac.broker.message import DONE, Claim, Lease, Message, Outcome, Settlement
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy
from celeriac.worker.consumer import Consumer
from celeriac.worker.context import WorkerContext
from celeriac.worker.machine import Machine
from celeriac.worker.options import WorkerOptions

LEASE_S = 9.0
NOTHING = Claim([], version=0)


def message(number: int = 1, **changes: Any) -> Message:
    """A message on lease; its id and its lease carry its number."""
    values: dict[str, Any] = {
        "lease": f"n{number}-0",
        "id": f"id-{number}",
        "task": "t",
        "body": b"[[], {}, {}]",
        "head": b"",
        "priority": "normal",
        "enqueued_ms": 0,
        "ready_ms": 0,
        "attempt": 0,
        "delivery": 1,
        "lost": 0,
        "expires_ms": 0,
        "history": b"",
    }
    return Message(**{**values, **changes})


def claim_of(*numbers: int, **changes: Any) -> Claim:
    """What a claim hands out: messages by their numbers."""
    return Claim([message(number) for number in numbers], version=0, **changes)


def done(it: Message, outcome: Outcome = DONE) -> Settlement:
    """A settlement of a message, which ran for a moment."""
    return Settlement(it, outcome, 1)


class ScriptedQueue(Queue):
    """Answers by the name of the method, and remembers what it was ``asked``.

    A list holds one answer after the other, and then the plain ones come; anything else is the answer every
    time. An exception is raised, a function is called for the answer.
    """

    def __init__(self, **answers: object) -> None:
        super().__init__(cast("Any", None), "q", lease_ms=int(LEASE_S * 1000))
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []

    def told(self, name: str) -> list[Any]:
        """What a method was asked, call by call."""
        return [asked for it, asked in self.asked if it == name]

    def _say(self, name: str, asked: object, plain: object) -> Any:
        self.asked.append((name, asked))
        script = self.answers.get(name)
        if isinstance(script, list):
            answer = script.pop(0) if script else plain
        else:
            answer = plain if script is None else script
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def claim(self, consumer: str, *, count: int, held: int = 0) -> Claim:
        answer: Claim = self._say("claim", (count, held), NOTHING)
        return answer

    def ask_claim(self, consumer: str, *, count: int, held: int = 0) -> Callable[[], Claim]:
        self._say("ask_claim", (count, held), None)
        return lambda: cast("Claim", self._say("answer", (), NOTHING))

    def claim_when_woken(
        self, consumer: str, *, count: int, held: int = 0, timeout_s: float
    ) -> Claim:
        answer: Claim = self._say("claim_when_woken", (count, held, timeout_s), NOTHING)
        return answer

    def renew(self, consumer: str, leases: Iterable[Lease]) -> set[Lease]:
        answer: set[Lease] = self._say("renew", (consumer, list(leases)), set())
        return answer

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        answer: list[bool] = self._say("settle", list(settlements), [True] * len(settlements))
        return answer

    def release(
        self,
        consumer: str,
        leases: Iterable[Lease],
        *,
        charged: bool = False,
        reason: str = "released",
    ) -> int:
        answer: int = self._say("release", (list(leases), charged), 0)
        return answer

    def charge(
        self, consumer: str, lease: Lease, *, reason: str = "worker_lost"
    ) -> Literal["ready", "dead", "lost"]:
        answer: Literal["ready", "dead", "lost"]
        answer = self._say("charge", (consumer, lease), "ready")
        return answer

    def take_back_unheard(self, consumer: str, heard: Mapping[str, str]) -> int:
        answer: int = self._say("take_back_unheard", dict(heard), 0)
        return answer

    def abandon(
        self, consumer: str, *, running: Sequence[Lease] | None = None, reason: str = "worker_lost"
    ) -> int:
        answer: int = self._say("abandon", (consumer, running), 0)
        return answer

    def watch(self, *, reclaim: bool = True) -> int:
        answer: int = self._say("watch", reclaim, 0)
        return answer

    def record(self) -> tuple[int, QueuePolicy]:
        answer: tuple[int, QueuePolicy] = self._say("record", (), (0, QueuePolicy()))
        return answer

    def declare(self, policy: QueuePolicy, *, only_if_absent: bool = False) -> int:
        answer: int = self._say("declare", (policy, only_if_absent), 1)
        return answer

    def cancel(self, message_id: str) -> Literal["cancelled", "requested"]:
        answer: Literal["cancelled", "requested"] = self._say("cancel", message_id, "requested")
        return answer


class ManualMachine(Machine):
    """A machine with one thread, whose clock moves when that waits: then happens what was planned."""

    #: Nothing here takes as long: what waits on has forgotten to end.
    LONGEST_S = 600.0

    def __init__(self) -> None:
        self.now = self.began = 1000.0
        self._plans: list[tuple[float, int, Callable[[], object]]] = []
        self._number = counted()
        self.threads: list[ManualThread] = []
        self.monotonic = lambda: self.now
        self.sleep = self.wait
        self.event = lambda: ManualEvent(self)
        self.lock = threading.Lock

    @property
    def passed_s(self) -> float:
        """Seconds since the beginning."""
        return self.now - self.began

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Plan a call, for when so much time has passed from now on."""
        heapq.heappush(self._plans, (self.now + seconds, next(self._number), call))

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, and what is planned happen, at most until something is true."""
        end = self.now + seconds
        while self._plans and self._plans[0][0] <= end and not until():
            self.now, _, call = heapq.heappop(self._plans)
            call()
        if not until():
            self.now = end
        assert self.passed_s < self.LONGEST_S, "nobody has ended this"

    def thread(self, target: Callable[[], None], *, name: str) -> ManualThread:
        thread = ManualThread(target, name)
        self.threads.append(thread)
        return thread


class ManualEvent(threading.Event):
    """Who waits for it lets the machine's time pass."""

    def __init__(self, machine: ManualMachine) -> None:
        super().__init__()
        self._machine = machine

    def wait(self, timeout: float | None = None) -> bool:
        self._machine.wait(ManualMachine.LONGEST_S if timeout is None else timeout, self.is_set)
        return self.is_set()


class ManualThread:
    """A thread that the test runs, or not."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self.run = target
        self.name = name
        self.started = self.joined = False

    def start(self) -> None:
        self.started = True

    def join(self, timeout: float | None = None) -> None:
        self.joined = True


def consumer_of(
    queue: ScriptedQueue, *, slots: int = 1, machine: ManualMachine | None = None, **options: Any
) -> Consumer:
    """A consumer named ``w``, on a machine of its own."""
    return Consumer(queue, "w", slots=slots, machine=machine or ManualMachine(), **options)


def taken(consumer: Consumer) -> Message:
    """Take a message as a runner does."""
    it = consumer.inflight.waiting.get_nowait()
    assert it is not None
    return it


def holding(
    *numbers: int, machine: ManualMachine | None = None, slots: int = 3, **answers: Any
) -> tuple[ScriptedQueue, Consumer]:
    """A consumer that has claimed messages of these numbers."""
    queue = ScriptedQueue(**{"claim": [claim_of(*numbers)], **answers})
    consumer = consumer_of(queue, slots=slots, machine=machine)
    assert consumer.claim()
    queue.asked.clear()
    return queue, consumer


def begun(consumer: Consumer) -> Any:
    it = taken(consumer)
    assert consumer.begin(it)
    return it


class Stopper:
    """What a pool does with a message whose lease is lost: it notes it, and stops it if it can."""

    def __init__(self, *, can: bool = False) -> None:
        self.stopped: list[Message] = []
        self._can = can

    def __call__(self, it: Message) -> bool:
        self.stopped.append(it)
        return self._can


class ScriptedContext(WorkerContext):
    """A worker whose queue is a scripted one; its children get others, if the test gives some."""

    def __init__(self, app: Celery, *queues: Queue, **options: Any) -> None:
        self._queues = list(queues)
        super().__init__(
            app, WorkerOptions(queue="q", name="w", broker="celeriac://localhost:1", **options)
        )
        self.parent = 0

    def _connect(self) -> Queue:
        return self._queues.pop(0)


@contextmanager
def heard(*names: str) -> Iterator[list[tuple[str, Any]]]:
    """Hear what Celery's signals of these names say, in order."""
    said: list[tuple[str, Any]] = []
    receivers: dict[str, Any] = {}
    for name in names:
        receivers[name] = lambda *_, name=name, **told: said.append((name, told))
        getattr(signals, name).connect(receivers[name], weak=False)
    try:
        yield said
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
