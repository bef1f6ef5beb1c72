"""Times to start are handed out as far apart as a task's rate limit says, once, to whoever asks."""

from __future__ import annotations

import os
from typing import Any

import pytest
from celery import Celery

from celeriac.broker.message import Postpone
from celeriac.worker.rate_limits import HORIZON_S, RateLimits
from tests.unit.worker.scripted import message


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits(clock: Clock, **conf: Any) -> RateLimits:
    app = Celery("limits", set_as_current=False)
    app.conf.update(conf)

    @app.task(name="two", rate_limit="2/s", shared=False)
    def two() -> None: ...

    @app.task(name="slow", rate_limit="1/m", shared=False)
    def slow() -> None: ...

    @app.task(name="free", shared=False)
    def free() -> None: ...

    app.finalize()
    return RateLimits(app, clock=clock)


def waits(limits: RateLimits, task: str, times: int) -> list[int]:
    found = [limits.wait(message(task=task), worker="w") for _ in range(times)]
    return [0 if it is None else it.delay_ms for it in found]


def test_starts_are_so_far_apart_as_the_limit_says(clock: Clock) -> None:
    limited = limits(clock)
    assert waits(limited, "two", 4) == [0, 500, 1000, 1500]
    assert waits(limited, "slow", 2) == [0, 60_000], "each task by itself"
    clock.now += 1.75
    assert waits(limited, "two", 1) == [250]
    clock.now += 60
    assert waits(limited, "two", 2) == [0, 500], "what was not used is not saved up"


def test_a_task_without_a_limit_never_waits(clock: Clock) -> None:
    limited = limits(clock)
    assert limited.tasks == {"two", "slow"}
    assert waits(limited, "free", 3) == [0, 0, 0]
    assert waits(limits(clock, worker_disable_rate_limits=True), "two", 3) == [0, 0, 0]


def test_the_default_is_for_tasks_without_their_own(clock: Clock) -> None:
    limited = limits(clock, task_default_rate_limit="10/s")
    assert waits(limited, "free", 3) == [0, 100, 200]
    assert waits(limited, "two", 2) == [0, 500]


def test_one_that_has_waited_starts_and_takes_nobodys_time(clock: Clock) -> None:
    limited = limits(clock)
    limited.wait(message(task="two"), worker="w")
    later = limited.wait(message(task="two"), worker="w")
    assert isinstance(later, Postpone)
    assert later.failure is not None
    history = later.failure.line(attempt=0, delivery=1) + b"\n"
    assert limited.wait(message(task="two", history=history), worker="w") is None
    assert waits(limited, "two", 1) == [1000]
    lost_since = b'{"reason":"worker_lost"}\n' + history
    assert limited.wait(message(task="two", history=lost_since), worker="w") is not None


def test_times_are_not_handed_out_for_ever_ahead(clock: Clock) -> None:
    limited = limits(clock)
    times = waits(limited, "slow", 10)
    assert times == [0, 60_000, 120_000, 180_000, 240_000, 300_000, *[HORIZON_S * 1000] * 4]
    assert limited.wait(message(task="slow"), worker="w") == Postpone(delay_ms=300_000), (
        "asks again"
    )


def test_processes_that_are_forked_share_them(clock: Clock) -> None:
    limited = limits(clock)
    assert waits(limited, "two", 1) == [0]
    child = os.fork()
    if child == 0:
        fine = waits(limited, "two", 2) == [500, 1000]
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert waits(limited, "two", 1) == [1500]


def test_a_limit_that_means_nothing_is_an_error(clock: Clock) -> None:
    with pytest.raises(ValueError, match="often"):
        limits(clock, task_default_rate_limit="often")
