"""Standing still: jobs wait, and nobody works."""

from __future__ import annotations

import pytest

from celeriac.chaos.faults import Fault
from celeriac.chaos.sidefile import Run
from celeriac.chaos.stall import longest_stall


def ran(job: str, started: float, finished: float | None, *, group: int = 1) -> Run:
    return Run(job, 11, group, 1, started, finished)


@pytest.mark.parametrize(
    ("runs", "stall_s"),
    [
        ([ran("a", 0, 1), ran("b", 1, 2)], 0.0),
        ([ran("a", 0.5, 1), ran("b", 4, 5)], 3.0),
        ([ran("a", 7, 8), ran("b", 8, 9)], 7.0),
        ([ran("a", 0, 9), ran("b", 2, 3)], 0.0),  # a long job is no standstill
        ([ran("a", 0, 1), ran("b", 1, None), ran("b", 6, 7, group=2)], 5.0),
    ],
)
def test_the_longest_time_in_which_none_of_the_waiting_jobs_was_at_work(
    runs: list[Run], stall_s: float
):
    assert longest_stall({"a": 0.0, "b": 0.0}, runs) == pytest.approx(stall_s)


def test_with_nothing_to_do_nothing_stands_still():
    runs = [ran("a", 0, 1), ran("b", 100, 101)]
    assert longest_stall({"a": 0.0, "b": 100.0}, runs) == 0.0
    assert longest_stall({}, []) == 0.0


def test_a_killed_run_was_at_work_until_then_and_a_frozen_one_was_not_meanwhile():
    killed = Fault(kind="kill", at=4, group=1)
    runs = [ran("a", 0, None), ran("a", 6, 7, group=2)]
    assert longest_stall({"a": 0.0}, runs, [killed]) == pytest.approx(2)
    frozen = Fault(kind="freeze", at=1, until=4, group=1)
    assert longest_stall({"a": 0.0}, [ran("a", 0, 5)], [frozen]) == pytest.approx(3)
    other = Fault(kind="freeze", at=1, until=4, group=9)
    assert longest_stall({"a": 0.0}, [ran("a", 0, 5)], [other]) == 0.0


def test_a_job_that_nobody_ever_finishes_waits_until_the_end():
    assert longest_stall({"a": 0.0, "b": 1.0}, [ran("a", 0, 2)], until=30) == pytest.approx(28)
