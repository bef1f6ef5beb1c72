"""What a worker needs of the machine it runs on: a clock, threads, and ways for threads to wait.

All that takes time in a consumer, its housekeeper and the pools of plain threads goes through here, so that a
simulator can bring a machine whose clock and whose threads it moves itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Event(Protocol):
    """As ``threading.Event``."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Lock(Protocol):
    """As ``threading.Lock``."""

    def acquire(self, blocking: bool = True) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


class Thread(Protocol):
    """As ``threading.Thread``."""

    def start(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...


class Mailbox(Protocol[T]):
    """As ``queue.SimpleQueue``; ``get_nowait`` raises ``queue.Empty``."""

    def put(self, item: T) -> None: ...
    def get(self) -> T: ...
    def get_nowait(self) -> T: ...
    def empty(self) -> bool: ...
    def qsize(self) -> int: ...


class Machine:
    """This machine, as Python sees it."""

    #: Seconds that never jump.
    monotonic: Callable[[], float] = staticmethod(time.monotonic)
    sleep: Callable[[float], None] = staticmethod(time.sleep)
    event: Callable[[], Event] = threading.Event
    lock: Callable[[], Lock] = threading.Lock

    def mailbox(self) -> Mailbox[Any]:
        """Make an empty queue between threads."""
        return SimpleQueue()

    def thread(self, target: Callable[[], None], *, name: str) -> Thread:
        """Make a thread, which does not keep the process from ending."""
        return threading.Thread(target=target, name=name, daemon=True)


THIS_MACHINE = Machine()
