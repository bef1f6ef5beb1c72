"""The machine that a simulated process runs on: its clock is the world's, its threads are greenlets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from celeriac.worker.machine import Machine

if TYPE_CHECKING:
    from tests.simulation.world import Parked, Process

T = TypeVar("T")


class SimulatedMachine(Machine):
    """What a process sees of its machine."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.monotonic = self._monotonic
        self.sleep = self._sleep
        self.event = lambda: SimulatedEvent(process)
        self.lock = lambda: SimulatedLock(process)

    def _monotonic(self) -> float:
        self.process.maybe_switch()
        return 1000 + self.process.world.now

    def _sleep(self, seconds: float) -> None:
        self.process.park(max(0.0, seconds))

    def mailbox(self) -> SimulatedMailbox[Any]:
        return SimulatedMailbox(self.process)

    def thread(self, target: Callable[[], None], *, name: str) -> SimulatedThread:
        return SimulatedThread(self.process, target, name)


class SimulatedEvent:
    """As ``threading.Event``."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._set = False
        self._waiting: deque[Parked] = deque()

    def set(self) -> None:
        self._set = True
        waiting = self._waiting
        while waiting:
            self._process.world.at(0, waiting.popleft().resume, True)
        self._process.maybe_switch()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        self._process.maybe_switch()
        return self._set or bool(self._process.park(timeout, self._waiting)) or self._set


class SimulatedLock:
    """As ``threading.Lock``."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._held = False
        self._waiting: deque[Parked] = deque()

    def acquire(self, blocking: bool = True) -> bool:
        self._process.maybe_switch()
        while self._held:
            if not blocking:
                return False
            self._process.park(None, self._waiting)
        self._held = True
        return True

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        self._held = False
        if self._waiting:
            self._process.world.at(0, self._waiting.popleft().resume, True)
        self._process.maybe_switch()


class SimulatedMailbox(Generic[T]):
    """As ``queue.SimpleQueue``."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._items: deque[T] = deque()
        self._waiting: deque[Parked] = deque()

    def put(self, item: T) -> None:
        self._items.append(item)
        if self._waiting:
            self._process.world.at(0, self._waiting.popleft().resume, True)
        self._process.maybe_switch()

    def get(self) -> T:
        self._process.maybe_switch()
        while not self._items:
            self._process.park(None, self._waiting)
        return self._items.popleft()

    def get_nowait(self) -> T:
        self._process.maybe_switch()
        if not self._items:
            raise Empty
        return self._items.popleft()

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)


class SimulatedThread:
    """As ``threading.Thread``."""

    def __init__(self, process: Process, target: Callable[[], None], name: str) -> None:
        self._process = process
        self._target = target
        self._name = name
        self._ended = SimulatedEvent(process)

    def start(self) -> None:
        def run() -> None:
            self._target()
            self._ended.set()

        self._process.spawn(run, self._name)

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(timeout)
