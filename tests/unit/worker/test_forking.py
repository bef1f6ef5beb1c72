"""A parent forks when none of its threads is busy, and in the end all the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from celeriac.worker.pools.prefork import forking
from celeriac.worker.pools.prefork.forking import PATIENCE_S, Forker


class Time:
    """Forks and a clock that the test moves, in place of the operating system's."""

    def __init__(self, forker: Forker) -> None:
        self.now = 1000.0
        self.quiet: list[bool] = []
        self._forker = forker

    def monotonic(self) -> float:
        return self.now

    def fork(self) -> int:
        with ThreadPoolExecutor(1) as other:
            self.quiet.append(not other.submit(self._forker.quiet.acquire, blocking=False).result())
        return 77


@pytest.fixture
def forker() -> Forker:
    return Forker()


@pytest.fixture
def clock(forker: Forker, monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time(forker)
    monkeypatch.setattr(forking, "time", clock)
    monkeypatch.setattr(forking, "os", clock)
    return clock


@pytest.fixture
def busy(forker: Forker) -> Iterator[threading.Event]:
    """A thread that is at work until the event is set."""
    done, begun = threading.Event(), threading.Event()

    def work() -> None:
        with forker.quiet:
            begun.set()
            done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(10)
    yield done
    done.set()
    thread.join()


def test_it_forks_while_no_thread_can_begin_anything(forker: Forker, clock: Time) -> None:
    assert forker.fork() == 77
    assert clock.quiet == [True]
    assert forker.quiet.acquire(blocking=False), "and lets them go on"


def test_it_waits_for_a_thread_that_is_busy_but_not_for_ever(
    forker: Forker, clock: Time, busy: threading.Event
) -> None:
    assert forker.fork() is None
    clock.now += 0.9 * PATIENCE_S
    assert forker.fork() is None
    clock.now += 0.2 * PATIENCE_S
    assert forker.fork() == 77
    assert forker.fork() is None, "the next one is patient again"


def test_patience_begins_anew_after_a_quiet_moment(
    forker: Forker, clock: Time, busy: threading.Event
) -> None:
    assert forker.fork() is None
    busy.set()
    while not forker.quiet.acquire(timeout=5):
        pass
    forker.quiet.release()
    clock.now += 2 * PATIENCE_S
    assert forker.fork() == 77
    assert forker._wanted_since is None
