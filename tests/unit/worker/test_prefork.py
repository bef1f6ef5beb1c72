"""Prefork with real children, on queues that answer what the test says: from their start to their end."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from celery import Celery
from celery.backends.cache import _DUMMY_CLIENT_CACHE
from celery.exceptions import SoftTimeLimitExceeded

from celeriac.broker.message import Claim, Discard, RetryAt, Settlement
from celeriac.spec.policies import QueuePolicy
from celeriac.worker.pools.prefork import Prefork
from celeriac.worker.pools.prefork.orphans import Orphan
from tests.unit.worker.scripted import (
    LEASE_S,
    NOTHING,
    ScriptedContext,
    ScriptedQueue,
    message,
)

#: Python warns of what these tests are about: forks while threads run.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    _DUMMY_CLIENT_CACHE.clear()
    app = Celery("forked", backend="cache+memory://", set_as_current=False)

    @app.task(name="quick", shared=False)
    def quick() -> None:
        pass

    @app.task(name="stuck", shared=False)
    def stuck() -> None:
        time.sleep(60)

    @app.task(name="dies", shared=False)
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @app.task(name="soft", shared=False)
    def soft() -> None:
        try:
            time.sleep(60)
        except SoftTimeLimitExceeded:
            os._exit(7)

    app.finalize()
    return app


def parent_of(app: Celery, queue: ScriptedQueue, *more: ScriptedQueue, **options: Any) -> Prefork:
    return Prefork(ScriptedContext(app, queue, *more, pool="prefork", **options))


class ChildQueue(ScriptedQueue):
    """Hands out the messages that the test writes into a pipe: by task, one byte each."""

    TASKS: Sequence[str] = ("quick", "stuck", "dies", "soft")

    def __init__(self, tasks: int, settled: int) -> None:
        super().__init__(claim=self._next, claim_when_woken=self._next)
        self._tasks, self._settled = tasks, settled

    def _next(self) -> Claim:
        if not select.select([self._tasks], [], [], 0.02)[0]:
            return NOTHING
        number = os.read(self._tasks, 1)[0]
        it = message(number, task=self.TASKS[number], head=b'{"h":{"ignore_result":false}}')
        return Claim([it], 0)

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        for it in settlements:
            os.write(self._settled, bytes([self.TASKS.index(it.message.task)]))
        return super().settle(settlements)


class Life:
    """A Prefork pool with real children, from its start to its end."""

    def __init__(self, app: Celery, **options: Any) -> None:
        tasks, self._tasks = os.pipe()
        self._settled, settled = os.pipe()
        self._pipes = (tasks, self._tasks, self._settled, settled)
        self.queue = ScriptedQueue()
        # A child takes the first; the copy of the next stays for the one after it.
        children = [ChildQueue(tasks, settled)]
        self.pool = parent_of(app, self.queue, *children, **{"drain_s": 5, **options})

    def give(self, task: str) -> None:
        os.write(self._tasks, bytes([ChildQueue.TASKS.index(task)]))

    def settled(self) -> str:
        """What a child settled; waits for it."""
        assert select.select([self._settled], [], [], 10)[0]
        return ChildQueue.TASKS[os.read(self._settled, 1)[0]]

    def live(self, script: Callable[[], None]) -> float:
        """Run the pool until the script ends; return how long the end took, in seconds."""
        with ThreadPoolExecutor(1) as thread:
            played: list[Future[float]] = []
            self.pool.run(started=lambda: played.append(thread.submit(self._play, script)))
            return time.monotonic() - played[0].result()

    def _play(self, script: Callable[[], None]) -> float:
        try:
            script()
        finally:
            ended = time.monotonic()
            self.pool.drain()
        return ended

    def close(self) -> None:
        for pipe in self._pipes:
            os.close(pipe)


@pytest.fixture
def lives(app: Celery) -> Iterator[Callable[..., Life]]:
    made: list[Life] = []

    def make(**options: Any) -> Life:
        made.append(Life(app, **options))
        return made[-1]

    yield make
    for it in made:
        it.close()


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.timeout(30)
def test_children_run_settle_and_drain(lives: Callable[..., Life]) -> None:
    life = lives()

    def script() -> None:
        life.give("quick")
        assert life.settled() == "quick"
        eventually(lambda: life.pool.finished == 1)

    assert life.live(script) < 3
    assert not life.pool._children
    assert life.queue.told("abandon") == [("w/1", []), ("w", [])]
    assert not life.queue.told("settle")


@pytest.mark.timeout(30)
def test_a_child_shows_that_its_threads_run(lives: Callable[..., Life]) -> None:
    life = lives()

    def script() -> None:
        life.give("stuck")
        eventually(life.pool.running)
        (child,) = life.pool._children.values()
        before = child.scoreboard.beaten
        eventually(lambda: child.scoreboard.beaten > before)
        life.pool.stop_at_once()

    life.live(script)


@pytest.mark.timeout(30)
def test_a_child_makes_room_for_another_after_as_many_as_it_is_to_run(
    lives: Callable[..., Life], app: Celery
) -> None:
    app.conf.worker_max_tasks_per_child = 1
    life = lives()

    def script() -> None:
        for _ in range(2):
            life.give("quick")
            assert life.settled() == "quick"
        eventually(lambda: ("w/2", []) in life.queue.told("abandon"))

    life.live(script)
    assert life.pool.finished == 2
    assert life.pool._young_deaths == 0


@pytest.mark.timeout(30)
def test_a_child_that_has_grown_makes_room_for_another(
    lives: Callable[..., Life], app: Celery
) -> None:
    app.conf.worker_max_memory_per_child = 1  # KiB: any has grown to more
    life = lives()

    def script() -> None:
        for _ in range(2):
            life.give("quick")
            assert life.settled() == "quick"
        eventually(lambda: ("w/2", []) in life.queue.told("abandon"))

    life.live(script)
    assert life.pool.finished == 2


@pytest.mark.timeout(30)
def test_a_hard_limit_ends_a_child_and_another_takes_its_place(
    lives: Callable[..., Life], app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    life = lives(timeout_s=0.3)

    def script() -> None:
        life.give("stuck")
        eventually(lambda: life.queue.told("settle"))
        life.give("quick")
        assert life.settled() == "quick"
        eventually(lambda: app.AsyncResult("id-1").state == "RETRY")

    life.live(script)
    ((settlement,),) = life.queue.told("settle")
    assert isinstance(settlement.outcome, RetryAt)
    assert settlement.outcome.failure is not None
    assert settlement.outcome.failure.reason == "hard_time_limit"
    assert 300 <= settlement.run_ms < 5000
    assert life.queue.told("abandon") == [("w/1", []), ("w/2", []), ("w", [])]
    assert "stuck[id-1] passed its hard limit of 0.3 s" in caplog.text


@pytest.mark.timeout(30)
def test_a_soft_limit_is_kept_in_the_child(lives: Callable[..., Life]) -> None:
    life = lives(soft_timeout_s=0.1)

    def script() -> None:
        life.give("soft")
        eventually(lambda: ("w/1", "n3-0") in life.queue.told("charge"))

    life.live(script)


@pytest.mark.timeout(30)
def test_what_kills_its_process_is_charged_and_another_child_goes_on(
    lives: Callable[..., Life],
) -> None:
    life = lives()

    def script() -> None:
        life.give("dies")
        life.give("quick")
        assert life.settled() == "quick"

    life.live(script)
    assert ("w/1", "n2-0") in life.queue.told("charge")
    assert life.pool.finished == 1


@pytest.mark.timeout(30)
def test_what_outlasts_the_grace_time_is_killed_and_goes_back_free(
    lives: Callable[..., Life],
) -> None:
    life = lives(drain_s=0.3)

    def script() -> None:
        life.give("stuck")
        eventually(life.pool.running)

    assert 0.3 <= life.live(script) < 4
    assert life.queue.told("abandon")[-2:] == [("w/1", []), ("w", [])]
    assert not life.queue.told("settle")


@pytest.mark.timeout(30)
def test_what_is_terminated_is_discarded_as_revoked(
    lives: Callable[..., Life], app: Celery
) -> None:
    life = lives()

    def script() -> None:
        life.give("stuck")
        eventually(lambda: life.pool.terminate("id-1"))
        eventually(lambda: app.AsyncResult("id-1").state == "REVOKED")

    life.live(script)
    ((settlement,),) = life.queue.told("settle")
    assert settlement.outcome == Discard("revoked")


@pytest.mark.timeout(30)
def test_the_attendant_looks_after_all_in_time(app: Celery) -> None:
    queue = ScriptedQueue(record=(3, QueuePolicy(paused=True)))
    pool = parent_of(app, queue, concurrency=0)
    pool._attendant.start()
    eventually(lambda: queue.told("watch") and queue.told("record"))
    time.sleep(0.3)
    pool._orphans.append(Orphan("w/1", None, None, None))
    eventually(lambda: ("w/1", []) in queue.told("abandon"))
    assert len(queue.told("watch")) == len(queue.told("record")) == 1, f"not before {LEASE_S / 3} s"
    assert pool.consumer.policy().paused
    pool._end()
    assert not pool._attendant.is_alive()
