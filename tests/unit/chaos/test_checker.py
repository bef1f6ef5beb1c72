"""The judge itself: it must see what is lost, and believe in no repetition that nothing explains."""

from __future__ import annotations

from pathlib import Path

import pytest

from celeriac.chaos.checker import forgotten, judge
from celeriac.chaos.faults import Fault
from celeriac.chaos.sidefile import History, Run, noted


def ran(job: str, started: float, finished: float | None, *, group: int = 1, pid: int = 11) -> Run:
    return Run(job, pid, group, 1, started, finished)


def test_a_job_that_nobody_finished_is_lost_unless_it_is_dead():
    verdict = judge(
        accepted={"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0},
        runs=[ran("a", 1, 2), ran("b", 1, None)],
        dead=["d"],
    )
    assert verdict.lost == ["b", "c"]


def test_a_job_that_the_broker_still_holds_is_stuck_and_not_lost():
    verdict = judge(
        accepted={"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0},
        runs=[ran("a", 1, 2), ran("b", 1, None)],
        waiting=["b", "a"],
        discarded=["d"],
    )
    assert (verdict.stuck, verdict.lost) == (["b"], ["c"])


def test_each_violation_is_named_with_an_example():
    runs = [ran("x", 1, 2), ran("b", 3, 4), ran("a", 5, 6), ran("a", 7, 8)]
    accepted = dict.fromkeys(["a", "b", "c", "d"], 0.0)
    verdict = judge(accepted=accepted, runs=runs, waiting=["d"], priorities={})
    assert verdict.violations() == [
        "1 lost: c",
        "1 stuck: d",
        "1 from nowhere: x",
        "1 run again for no reason: a",
        "1 out of order: b before a",
    ]
    assert len(verdict.violations(displaced=1)) == 4
    assert judge(accepted={"a": 0.0}, runs=[ran("a", 1, 2)], priorities={}).violations() == []


def test_a_job_from_nowhere_is_told():
    runs = [ran("x", 1, 2), ran("y", 1, 2), ran("a", 1, 2)]
    assert judge(accepted={"a": 0.0}, uncertain={"y"}, runs=runs).strangers == {"x"}


@pytest.mark.parametrize(
    ("first", "fault", "why"),
    [
        (ran("a", 1, None), Fault(kind="kill", at=1.5, group=1), "killed while it ran"),
        (ran("a", 1, None), Fault(kind="kill", at=1.5, pid=11), "killed while it ran"),
        (
            ran("a", 1, 1.2),
            Fault(kind="kill", at=1.3, group=1),
            "killed before its end was settled",
        ),
        (ran("a", 1, 1.2), Fault(kind="kill", at=9.0, group=1), ""),
        (ran("a", 1, None), Fault(kind="kill", at=1.5, group=2), ""),
        (ran("a", 1, 8.0), Fault(kind="freeze", at=2, until=7, group=1), "frozen past its lease"),
        (ran("a", 8, 8.5), Fault(kind="freeze", at=2, until=7, group=1), ""),
        (
            ran("a", 1, 1.2),
            Fault(kind="broker", at=1.3, until=2),
            "the broker went away with its end",
        ),
        (ran("a", 5, 5.2), Fault(kind="broker", at=1.3, until=2), ""),
        (
            ran("a", 1, 1.2),
            Fault(kind="cut", at=1.3, until=4, group=1),
            "cut off from the broker past its lease",
        ),
        (ran("a", 5, 5.2), Fault(kind="cut", at=1.3, until=4, group=1), ""),
        (ran("a", 1, 1.2), Fault(kind="cut", at=1.3, until=4, group=2), ""),
        (
            ran("a", 3, 3.2),
            Fault(kind="failover", at=1.3, until=4),
            "settled at a primary that was replaced",
        ),
        (ran("a", 5, 5.2), Fault(kind="failover", at=1.3, until=4), ""),
    ],
)
def test_a_repetition_needs_a_fault_that_struck_its_first_run(first: Run, fault: Fault, why: str):
    second = ran("a", 10, 11, group=3, pid=33)
    (repeat,) = judge(accepted={"a": 0.0}, runs=[second, first], faults=[fault]).repeats
    assert repeat.why == why
    assert (repeat.run, repeat.again) == (first, second)


def test_a_fault_after_the_second_run_explains_nothing():
    runs = [ran("a", 1, None), ran("a", 2, 3, group=2)]
    verdict = judge(accepted={"a": 0.0}, runs=runs, faults=[Fault(kind="kill", at=2.5, group=1)])
    assert len(verdict.unexplained) == 1


def test_only_jobs_that_finished_twice_count_as_duplicated():
    kill = [Fault(kind="kill", at=1.5, group=1)]
    once = [ran("a", 1, None), ran("a", 4, 5, group=2)]
    twice = [ran("b", 1, 1.4), ran("b", 3, 5, group=2)]
    verdict = judge(accepted={"a": 0.0, "b": 0.0}, runs=once + twice, faults=kill)
    assert verdict.duplicated == 1
    assert verdict.recovery_s == pytest.approx(2.5)
    assert verdict.why == "1 killed while it ran, 1 killed before its end was settled"


def test_how_old_the_jobs_were_that_a_broker_forgot():
    accepted = {"old": 1.0, "new": 9.5, "other": 3.0}
    outages = [Fault(kind="broker", at=at, until=at + 1) for at in (5.0, 10.0)]
    assert forgotten(["new"], accepted, outages) == pytest.approx(0.5)
    assert forgotten(["new", "other"], accepted, outages) == pytest.approx(2.0)
    assert forgotten([], accepted, outages) == 0.0
    assert forgotten(["late"], {"late": 10.01}, outages) == 0.0
    assert forgotten(["after"], {"after": 11.01}, outages) > 1000


def test_the_side_file_tells_runs_that_ended_from_those_that_did_not(tmp_path: Path):
    path = tmp_path / "runs"
    history = History(path)
    with noted(str(path), "a", 1):
        assert [run.finished for run in history.read().runs] == [None]
        with pytest.raises(RuntimeError), noted(str(path), "b", 2):
            raise RuntimeError
    assert history.read().finished == {"a"}
    assert [(run.job, run.delivery) for run in history.runs] == [("a", 1), ("b", 2)]


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "runs"
    path.write_text("S a 11 1 1 1 1.0\nS b 11 1 2")
    history = History(path)
    assert [run.job for run in history.read().runs] == ["a"]
    with path.open("a") as file:
        file.write(" 1 2.0\n")
    assert [run.job for run in history.read().runs] == ["a", "b"]
