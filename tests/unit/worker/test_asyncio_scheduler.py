"""The Asyncio pool on a scripted queue: coroutines side by side, functions beside them, and every end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import Celery
from celery.backends.cache import _DUMMY_CLIENT_CACHE
from celery.exceptions import Reject, SoftTimeLimitExceeded

from celeriac.broker.message import DONE, Claim, DeadLetter, Discard, RetryAt, Settlement
from celeriac.worker.pools.asyncio import Asyncio
from tests.unit.worker.scripted import (
    NOTHING,
    ScriptedContext,
    ScriptedQueue,
    heard,
    message,
)

KEPT = b'{"h":{"ignore_result":false}}'


class Scene:
    """An app of coroutines, and its pool, which closes when the test is satisfied."""

    def __init__(self, **options: Any) -> None:
        self.app = Celery("native", backend="cache+memory://", set_as_current=False)
        self.together: set[str] = set()
        """Tasks that ran at the same time as another."""
        self.inside: set[str] = set()
        self.cleaned: list[str] = []
        self.threads: list[str] = []
        self._tasks()
        self.queue = ScriptedQueue(claim=self._claim, claim_when_woken=self._idle)
        self.pool = Asyncio(ScriptedContext(self.app, self.queue, pool="asyncio", **options))
        self._claims: list[Claim] = []

    def _tasks(self) -> None:
        app, scene = self.app, self

        @app.task(name="nap", bind=True, shared=False)
        async def nap(task: Any, seconds: float) -> str:
            scene.inside.add(task.request.id)
            try:
                await asyncio.sleep(seconds)
                if len(scene.inside) > 1:
                    scene.together |= scene.inside
            except asyncio.CancelledError:
                scene.cleaned.append(task.request.id)
                raise
            finally:
                scene.inside.discard(task.request.id)
            return f"{task.request.id} slept"

        @app.task(name="fails", shared=False)
        async def fails() -> None:
            await asyncio.sleep(0)
            raise ValueError("boom")

        @app.task(name="rejects", shared=False)
        async def rejects() -> None:
            raise Reject("no", requeue=False)

        @app.task(name="soft", shared=False)
        async def soft() -> str:
            try:
                await asyncio.sleep(60)
            except SoftTimeLimitExceeded:
                return "in time"
            return "too late"

        @app.task(name="plain", shared=False)
        def plain() -> None:
            scene.threads.append(threading.current_thread().name)

        app.finalize()

    # --- the queue's answers ---

    def _claim(self) -> Claim:
        return self._claims.pop(0) if self._claims else self._idle()

    def _idle(self) -> Claim:
        time.sleep(0.005)
        return NOTHING

    def run(self, *claims: Claim, until: Callable[[], bool] | None = None) -> None:
        """Run what the claims hand out until something is true: all is settled, if nothing else is said."""
        self._claims = list(claims)
        count = sum(len(claim.messages) for claim in claims)
        satisfied = until or (lambda: len(self.settled) >= count)
        deadline = time.monotonic() + 10

        def close() -> None:
            while not satisfied() and time.monotonic() < deadline:
                time.sleep(0.005)
            self.pool.consumer.closing.set()

        self.pool.prepare()
        with ThreadPoolExecutor(1) as thread:
            closed = thread.submit(close)
            self.pool.serve()
            self.pool.consumer.closing.set()
            closed.result()
        assert time.monotonic() < deadline

    @property
    def settled(self) -> dict[str, Settlement]:
        return {it.message.id: it for batch in self.queue.told("settle") for it in batch}


def naps(*seconds: float, first: int = 1) -> Claim:
    """A claim of messages that sleep."""
    return Claim(
        [
            message(number, task="nap", body=f"[[{it}], {{}}, {{}}]".encode(), head=KEPT)
            for number, it in enumerate(seconds, first)
        ],
        0,
    )


def of(task: str, **changes: Any) -> Claim:
    return Claim([message(1, task=task, head=KEPT, **changes)], 0)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scene]:
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    _DUMMY_CLIENT_CACHE.clear()
    for module in (
        "_state",
        "app.base",
        "app.task",
        "app.trace",
    ):  # which a worker changes for good
        monkeypatch.setattr(f"celery.{module}._task_stack", _task_stack())
    for name in ("push_current_task", "pop_current_task"):
        monkeypatch.setattr(f"celery._state.{name}", getattr(_state(), name))
    return Scene


def _state() -> Any:
    from celery import _state as state

    return state


def _task_stack() -> Any:
    return _state()._task_stack


pytestmark = pytest.mark.timeout(30)


def test_coroutines_run_side_by_side_and_are_settled(make: Callable[..., Scene]) -> None:
    scene = make(concurrency=3)
    scene.run(naps(0.05, 0.05, 0.05))
    assert scene.together == {"id-1", "id-2", "id-3"}
    assert {it.outcome for it in scene.settled.values()} == {DONE}
    assert all(it.run_ms is not None for it in scene.settled.values())
    assert scene.app.AsyncResult("id-2").result == "id-2 slept"
    assert scene.queue.asked[-1] == ("abandon", ("w", []))
    assert scene.pool.consumer.held == 0


def test_no_more_run_than_there_are_slots(make: Callable[..., Scene]) -> None:
    scene = make(concurrency=2)
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, len(scene.inside))
        return len(scene.settled) == 6

    scene.run(naps(*[0.03] * 6), until=look)
    assert most == 2
    assert len(scene.settled) == 6


def test_a_failure_is_the_policys(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.run(of("fails"))
    outcome = scene.settled["id-1"].outcome
    assert isinstance(outcome, RetryAt)
    assert outcome.failure is not None and outcome.failure.message == "boom"
    assert scene.app.AsyncResult("id-1").state == "RETRY"


def test_the_last_failure_is_a_dead_letter(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.run(of("fails", attempt=4))
    assert isinstance(scene.settled["id-1"].outcome, DeadLetter)
    assert scene.app.AsyncResult("id-1").state == "FAILURE"


def test_a_rejected_one_is_a_dead_letter(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.run(of("rejects"))
    outcome = scene.settled["id-1"].outcome
    assert isinstance(outcome, DeadLetter) and outcome.reason == "rejected"


def test_what_cannot_be_opened_is_a_dead_letter(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.run(of("unknown", history=b'{"reason":"unknown_task","endedMs":1000}\n'))
    outcome = scene.settled["id-1"].outcome
    assert isinstance(outcome, DeadLetter) and outcome.reason == "unknown_task"


def test_plain_functions_run_in_threads(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.run(of("plain"))
    assert scene.settled["id-1"].outcome == DONE
    assert scene.threads[0].startswith("celeriac-slot")


def test_a_hard_limit_is_kept(make: Callable[..., Scene]) -> None:
    scene = make(timeout_s=0.1)
    scene.run(naps(60))
    outcome = scene.settled["id-1"].outcome
    assert isinstance(outcome, RetryAt)
    assert outcome.failure is not None
    assert (outcome.failure.reason, outcome.failure.error) == (
        "hard_time_limit",
        "TimeLimitExceeded",
    )
    assert scene.cleaned == ["id-1"]


def test_a_soft_limit_is_kept(make: Callable[..., Scene]) -> None:
    scene = make(soft_timeout_s=0.05)
    scene.run(of("soft"))
    assert scene.settled["id-1"].outcome == DONE
    assert scene.app.AsyncResult("id-1").result == "in time"


def test_a_message_is_terminated_by_its_id(make: Callable[..., Scene]) -> None:
    scene = make(concurrency=2)
    asked: list[bool] = []

    def until() -> bool:
        if not asked and len(scene.inside) == 2:
            asked.extend([scene.pool.terminate("id-9"), scene.pool.terminate("id-1")])
        return len(scene.settled) == 2

    with heard("task_revoked", "task_postrun") as said:
        scene.run(naps(60, 0.1), until=until)
    assert asked == [False, True]
    assert scene.settled["id-1"].outcome == Discard("revoked")
    assert scene.settled["id-2"].outcome == DONE
    assert scene.cleaned == ["id-1"]
    assert scene.app.AsyncResult("id-1").state == "REVOKED"
    assert [name for name, _ in said if name == "task_revoked"] == ["task_revoked"]


def test_what_is_somebody_elses_is_stopped_and_goes_back(make: Callable[..., Scene]) -> None:
    scene = make()
    asked: list[bool] = []

    def until() -> bool:
        if not asked and scene.inside:
            asked.append(scene.pool.stop_taken(message(9)))
            scene.pool.consumer.inflight.lose({"n1-0"})
        return len(scene.settled) == 1

    scene.run(naps(60), until=until)
    assert asked == [False]
    assert scene.settled["id-1"].outcome == RetryAt(delay_ms=0)
    assert scene.cleaned == ["id-1"]


def test_a_drain_waits_for_what_runs_and_gives_back_the_rest(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.pool.consumer.prefetch.observe(0.01)
    scene.run(naps(0.2, 0.2), until=lambda: bool(scene.inside))
    assert scene.settled["id-1"].outcome == DONE
    assert scene.queue.told("release") == [(["n2-0"], False)]


def test_what_fails_outside_of_its_task_is_left_to_its_lease_and_makes_room(
    make: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = make()

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("celeriac.worker.runner.AttemptRunner.run", broken)
    scene.run(of("plain"), naps(0.01, first=2), until=lambda: "id-2" in scene.settled)
    assert "id-1" not in scene.settled
    assert "plain[id-1]: it runs again when its lease ends" in caplog.text


def test_a_thread_of_its_own_that_fails_ends_the_worker(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.queue.answers["abandon"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        scene.run(naps(0.01), until=lambda: scene.pool._scheduler._failure is not None)


def test_what_waited_too_long_is_renewed_aside_before_it_starts(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.queue.lease_ms = 60_000
    renewed: list[str] = []

    def claim() -> Claim:
        scene.queue.lease_ms = -1
        return naps(0.01)

    def renew() -> set[str]:
        renewed.append(threading.current_thread().name)
        scene.queue.lease_ms = 60_000
        return set()

    claims = [claim]
    scene.queue.answers["claim"] = lambda: claims.pop()() if claims else scene._idle()
    scene.queue.answers["renew"] = renew
    scene.run(until=lambda: len(scene.settled) == 1)
    assert renewed and renewed[0].startswith("celeriac-helper")


def test_its_beat_is_its_slowest_threads(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.pool.prepare()
    scene.pool._watch.beat = 5.0
    assert scene.pool.beat == 5.0
    scene.pool._watch.beat = 1e12
    assert scene.pool.beat == scene.pool.housekeeper.beat
    scene.pool._scheduler._wind_up()
