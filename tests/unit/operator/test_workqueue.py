"""The work queue: no key twice, none in two hands, later after each failure."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from celeriac_operator.workqueue import LAST_RETRY_S, WorkQueue

if TYPE_CHECKING:
    from tests.unit.operator.conftest import Time


@pytest.fixture
def work(clock: Time) -> WorkQueue[str]:
    return WorkQueue(monotonic=clock)


def test_keys_come_in_order_and_once(work: WorkQueue[str]) -> None:
    for key in ("a", "b", "a", "a"):
        work.add(key)
    assert len(work) == 2
    assert [work.take(0), work.take(0), work.take(0)] == ["a", "b", None]


def test_a_key_in_hand_is_not_handed_out_again_before_it_is_done(work: WorkQueue[str]) -> None:
    work.add("a")
    assert work.take(0) == "a"
    work.add("a")
    work.add("a")
    assert work.take(0) is None
    assert len(work) == 1
    work.done("a")
    assert work.take(0) == "a"
    work.done("a")
    assert work.take(0) is None


def test_a_delayed_key_comes_when_its_time_has_come(work: WorkQueue[str], clock: Time) -> None:
    work.add_after("a", 10)
    assert work.take(0) is None
    clock.now += 9.9
    assert work.take(0) is None
    clock.now += 0.1
    assert work.take(0) == "a"


def test_the_earliest_of_two_delays_counts_and_only_once(work: WorkQueue[str], clock: Time) -> None:
    work.add_after("a", 10)
    work.add_after("a", 5)
    work.add_after("a", 20)
    clock.now += 5
    assert work.take(0) == "a"
    work.done("a")
    clock.now += 60
    assert work.take(0) is None


def test_what_comes_now_need_not_come_later(work: WorkQueue[str], clock: Time) -> None:
    work.add_after("a", 10)
    work.add("a")
    assert work.take(0) == "a"
    work.done("a")
    clock.now += 60
    assert work.take(0) is None


def test_each_failure_doubles_the_wait_and_success_forgets_it(
    work: WorkQueue[str], clock: Time
) -> None:
    waits = [work.retry("a") for _ in range(12)]
    assert waits[:4] == [0.5, 1, 2, 4]
    assert waits[-1] == LAST_RETRY_S
    work.succeeded("a")
    assert work.retry("a") == 0.5
    assert work.retry("b") == 0.5


def test_a_waiting_worker_is_woken(work: WorkQueue[str]) -> None:
    real: WorkQueue[str] = WorkQueue()
    got: list[str | None] = []
    thread = threading.Thread(target=lambda: got.append(real.take(5)))
    thread.start()
    real.add_after("a", 0.05)
    thread.join(3)
    assert got == ["a"]


def test_a_closed_queue_hands_out_nothing_and_wakes_everybody() -> None:
    real: WorkQueue[str] = WorkQueue()
    began = time.monotonic()
    thread = threading.Thread(target=lambda: real.take(60))
    thread.start()
    real.close()
    thread.join(3)
    real.add("b")
    assert real.take(0) is None
    assert time.monotonic() - began < 3


def test_many_hands_share_the_work_without_a_double() -> None:
    real: WorkQueue[int] = WorkQueue()
    busy: set[int] = set()
    lock, wrong, done = threading.Lock(), [], []

    def work_off() -> None:
        while (key := real.take(0.3)) is not None:
            with lock:
                wrong.extend([key] if key in busy else [])
                busy.add(key)
            time.sleep(0.0005)
            with lock:
                busy.discard(key)
                done.append(key)
            real.done(key)

    threads = [threading.Thread(target=work_off) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(600):
        real.add(number % 7)
    for thread in threads:
        thread.join(10)
    assert not wrong
    assert set(done) == set(range(7))
