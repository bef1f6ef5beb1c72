"""Driving one coroutine: what became of it, limits, cancellation, and what swallows it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from celeriac.worker.pools.asyncio import drive as module
from celeriac.worker.pools.asyncio.drive import Drive, Ended


class Stop(Exception):
    """Why a test ends a coroutine."""


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


class Track:
    """Runs drives one after the other on a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.drive: Drive
        self.told = 0

    def run(
        self,
        start: Callable[[], Any],
        *,
        then: Callable[[], object] | None = None,
        after_s: float = 0.02,
        **limits: float,
    ) -> Ended:
        ended: asyncio.Future[Ended] = self.loop.create_future()

        def tell(answer: Ended) -> None:
            self.told += 1
            ended.set_result(answer)

        self.drive = Drive(start, tell, name="task[id]", **limits)
        self.drive.begin(self.loop, copy_context())
        if then is not None:
            self.loop.call_later(after_s, then)
        return self.loop.run_until_complete(asyncio.wait_for(ended, 5))


@pytest.fixture
def track(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> Track:
    monkeypatch.setattr(module, "CLEANUP_S", 0.05)
    return Track(loop)


async def _sleep() -> str:
    await asyncio.sleep(5)
    return "whole"


# --- what became of it ----------------------------------------------------------------------------------


def test_a_value(track: Track) -> None:
    async def coroutine() -> int:
        await asyncio.sleep(0.001)
        return 7

    assert track.run(coroutine) == Ended(7)
    assert track.run(lambda: 8) == Ended(8), "a __call__ need not return a coroutine"

    async def given() -> int:
        return 9

    assert track.run(lambda: asyncio.ensure_future(given())) == Ended(9)


@pytest.mark.parametrize(
    "kind", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, BaseException]
)
@pytest.mark.parametrize("late", [False, True])
def test_whatever_it_raises_is_told_and_ends_nothing(
    track: Track, kind: type[BaseException], late: bool
) -> None:
    async def coroutine() -> None:
        if late:
            await asyncio.sleep(0.001)
        raise kind("on purpose")

    ended = track.run(coroutine)
    assert type(ended.error) is kind
    assert not ended.forced


def test_what_it_waits_for_may_fail(track: Track) -> None:
    async def fail() -> None:
        raise ValueError("below")

    async def coroutine() -> str:
        with suppress(ValueError):
            await asyncio.create_task(fail())
        async with asyncio.timeout(1):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(1)
        return "went on"

    assert track.run(coroutine) == Ended("went on")


def test_it_runs_in_the_context_that_is_given(track: Track) -> None:
    variable = ContextVar("variable", default=0)

    async def coroutine() -> int:
        variable.set(variable.get() + 1)
        await asyncio.sleep(0)
        return variable.get()

    assert track.run(coroutine) == Ended(1)
    assert track.run(coroutine) == Ended(1)
    assert variable.get() == 0


def test_one_that_cancels_itself(track: Track) -> None:
    async def coroutine() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "too late"

    assert isinstance(track.run(coroutine).error, asyncio.CancelledError)


# --- limits ---------------------------------------------------------------------------------------------


def test_the_soft_limit_is_an_error_of_its_own(track: Track) -> None:
    ended = track.run(_sleep, soft_s=0.02, hard_s=5)
    assert isinstance(ended.error, SoftTimeLimitExceeded)
    assert not ended.forced


@pytest.mark.parametrize("hurdle", ["sleep", "shield", "gather", "group", "timeout", "busy"])
def test_after_the_soft_limit_a_coroutine_may_go_on(track: Track, hurdle: str) -> None:
    hurdles: dict[str, Callable[[], Awaitable[object]]] = {
        "sleep": lambda: asyncio.sleep(5),
        "shield": lambda: asyncio.shield(asyncio.sleep(5)),
        "gather": lambda: asyncio.gather(asyncio.sleep(5), asyncio.sleep(6)),
        "group": _group,
        "timeout": lambda: asyncio.wait_for(asyncio.sleep(5), 6),
        "busy": _busy,
    }

    async def coroutine() -> str:
        try:
            await hurdles[hurdle]()
        except* SoftTimeLimitExceeded:
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0, "nobody takes it for a cancellation"
            await asyncio.sleep(0.01)
        return "went on"

    assert track.run(coroutine, soft_s=0.02) == Ended("went on")


async def _group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(5))
        await asyncio.sleep(5)


async def _busy() -> None:
    while True:  # noqa: ASYNC110
        await asyncio.sleep(0)


def test_the_hard_limit_cancels(track: Track, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def coroutine() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            await asyncio.sleep(0.01)
            seen.append("cleaned up")

    ended = track.run(coroutine, hard_s=0.02)
    assert isinstance(ended.error, TimeLimitExceeded)
    assert ended.forced
    assert isinstance(ended.error.__cause__, asyncio.CancelledError)
    assert seen == ["cleaned up"]
    assert caplog.messages == ["task[id] passed its hard limit of 0.02 s"]


def test_the_hard_limit_comes_after_a_soft_one_that_is_swallowed(track: Track) -> None:
    async def coroutine() -> None:
        with suppress(SoftTimeLimitExceeded):
            await asyncio.sleep(5)
        await asyncio.sleep(5)

    ended = track.run(coroutine, soft_s=0.02, hard_s=0.05)
    assert isinstance(ended.error, TimeLimitExceeded)


def test_limits_that_strike_at_once(track: Track) -> None:
    """The loop was held up beyond both: the hard one counts."""

    async def coroutine() -> str:
        time.sleep(0.08)  # noqa: ASYNC251
        with suppress(SoftTimeLimitExceeded):
            await asyncio.sleep(0.02)
        return "went on"

    started = time.monotonic()
    ended = track.run(coroutine, soft_s=0.02, hard_s=0.04)
    assert isinstance(ended.error, TimeLimitExceeded)
    assert isinstance(ended.error.__cause__, asyncio.CancelledError)
    assert time.monotonic() - started < 1


def test_one_that_ends_in_time_hears_of_no_limit(track: Track) -> None:
    async def coroutine() -> str:
        await asyncio.sleep(0.01)
        return "in time"

    assert track.run(coroutine, soft_s=0.05, hard_s=0.06) == Ended("in time")
    timers = [it for it in track.loop._scheduled if "Drive" in repr(it)]  # type: ignore[attr-defined]
    assert timers == [], "a loop must not remember every message for as long as its limits"
    track.loop.run_until_complete(asyncio.sleep(0.1))
    assert track.told == 1


# --- cancelling -----------------------------------------------------------------------------------------


def test_cancelled_from_outside(track: Track) -> None:
    why = Stop()
    ended = track.run(_sleep, then=lambda: track.drive.cancel(why))
    assert (ended.error, ended.forced) == (why, True)
    assert not track.drive.cancel(why), "it is over"


def test_cancelled_before_it_has_begun(track: Track) -> None:
    begun: list[bool] = []
    why = Stop()

    async def coroutine() -> None:
        begun.append(True)

    ended: list[Ended] = []
    drive = Drive(coroutine, ended.append, name="task[id]")
    drive.begin(track.loop, copy_context())
    assert drive.cancel(why)
    track.loop.run_until_complete(asyncio.sleep(0.01))
    assert [(it.error, it.forced) for it in ended] == [(why, True)]
    assert begun == []


def test_a_value_after_the_cancellation_does_not_count(track: Track) -> None:
    async def coroutine() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(5)
        return "after all"

    ended = track.run(coroutine, hard_s=0.02)
    assert isinstance(ended.error, TimeLimitExceeded)


def test_one_that_swallows_its_cancellation_is_closed(
    track: Track, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[str] = []

    async def coroutine() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(5)
            steps.append("swallowed")

    ended = track.run(coroutine, hard_s=0.02)
    assert isinstance(ended.error, TimeLimitExceeded)
    assert "swallows its cancellation" in caplog.messages[-1]
    assert steps == ["swallowed"]
    track.loop.run_until_complete(asyncio.sleep(0.15))
    assert steps == ["swallowed"], "it does not run any more"
    assert not asyncio.all_tasks(track.loop)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_swallows_everything_is_left_where_it_is(track: Track) -> None:
    async def coroutine() -> None:
        for _ in range(9):
            with suppress(BaseException):
                await asyncio.sleep(5)

    ended = track.run(coroutine, hard_s=0.02)
    assert isinstance(ended.error, TimeLimitExceeded)
    assert not asyncio.all_tasks(track.loop)
    gc.collect()  # Python complains on stderr when it is thrown away


def test_one_that_waits_for_a_swallower_is_left_behind(
    track: Track, caplog: pytest.LogCaptureFixture
) -> None:
    over: list[bool] = []

    async def child() -> None:
        while not over:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.2)

    async def coroutine() -> None:
        await asyncio.create_task(child())
        raise AssertionError("it must not go on")

    ended = track.run(coroutine, hard_s=0.02)
    assert isinstance(ended.error, TimeLimitExceeded)
    assert "left behind" in caplog.messages[-1]
    assert not track.drive.cancel(Stop()), "it is over, as far as anybody can tell"
    over.append(True)
    track.loop.run_until_complete(asyncio.sleep(0.3))
    assert track.told == 1
    assert not asyncio.all_tasks(track.loop), "its late end is nobody's business"
