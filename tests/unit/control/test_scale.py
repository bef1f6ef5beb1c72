"""How many workers: the arithmetic, its limits, and its calm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.backend.base import Fleet
from celeriac.control.explain import explain
from celeriac.control.scale import ScaleMemory, decide

from .conftest import Make

MAKE = Make()


def decision(
    stats: dict[str, Any] | None, *, wanted: int = 0, outside: bool = False, **spec: Any
) -> Any:
    observation = MAKE.observation(
        fleet=Fleet(wanted=wanted, ready=wanted),
        stats=None if stats is None else MAKE.stats(**stats),
        error="no route" if stats is None else "",
    )
    queue = MAKE.queue(**spec)
    return decide(queue.spec, observation, ScaleMemory(), outside_autoscaler=outside)[0]


@pytest.mark.parametrize(
    ("stats", "autoscaling", "desired", "limited_by"),
    [
        ({}, {}, 0, "Depth"),
        ({"ready": 1}, {}, 1, "Depth"),
        ({"ready": 10}, {}, 1, "Depth"),
        ({"ready": 11}, {}, 2, "Depth"),
        ({"ready": 5, "leased": 5, "due": 1}, {}, 2, "Depth"),
        ({"leased": 1}, {}, 1, "Depth"),
        ({"due": 1}, {}, 1, "Depth"),
        ({"delayed": 50}, {}, 0, "Depth"),
        ({"dead": 50}, {}, 0, "Depth"),
        ({"ready": 500}, {"maxReplicas": 4}, 4, "MaxReplicas"),
        ({}, {"minReplicas": 2}, 2, "MinReplicas"),
        ({"ready": 40}, {"minReplicas": 2}, 4, "Depth"),
    ],
)
def test_the_arithmetic(
    stats: dict[str, Any], autoscaling: dict[str, Any], desired: int, limited_by: str
) -> None:
    found = decision(stats, autoscaling=autoscaling)

    assert (found.desired, found.limited_by) == (desired, limited_by)


def test_a_solo_worker_counts_for_one() -> None:
    assert decision({"ready": 3}, worker={"pool": "Solo", "concurrency": 10}).desired == 3


def test_replicas_is_the_least_number_with_native() -> None:
    assert decision({}, replicas=3).desired == 3
    assert decision({}, replicas=3).limited_by == "Replicas"
    assert decision({"ready": 60}, replicas=3).desired == 6
    assert decision({}, replicas=30, autoscaling={"maxReplicas": 5}).desired == 5


@pytest.mark.parametrize(
    ("mode", "outside", "desired"),
    [("Off", False, 2), ("Off", True, 2), ("KEDA", True, 4), ("HPA", True, 4), ("KEDA", False, 9)],
)
def test_another_mode_follows_replicas_or_whoever_scales(
    mode: str, outside: bool, desired: int
) -> None:
    """Where no outside autoscaler can be, its modes are taken as Native."""
    found = decision(
        {"ready": 90}, wanted=4, replicas=2, autoscaling={"mode": mode}, outside=outside
    )

    assert found.desired == desired


def test_an_unreadable_broker_holds_what_runs() -> None:
    found = decision(None, wanted=3, autoscaling={"minReplicas": 1})

    assert (found.desired, found.limited_by) == (3, "BrokerUnreachable")


@pytest.mark.parametrize("how", ["spec", "broker"])
def test_a_paused_queue_keeps_its_workers_and_starts_none(how: str) -> None:
    def paused(wanted: int) -> int:
        if how == "spec":
            return int(decision({"ready": 90}, wanted=wanted, paused=True).desired)
        return int(decision({"ready": 90, "paused": True}, wanted=wanted).desired)

    assert paused(0) == 0
    assert paused(2) == 2


class Story:
    """A queue over time; one worker for each message."""

    def __init__(self, **autoscaling: Any) -> None:
        self.spec = MAKE.queue(
            worker={"concurrency": 1},
            autoscaling={"maxReplicas": 100, "scaleDownDelaySeconds": 30} | autoscaling,
        ).spec
        self.memory = ScaleMemory()
        self.wanted = 0

    def at(self, seconds: float, ready: int | None) -> int:
        observation = MAKE.observation(
            fleet=Fleet(wanted=self.wanted),
            stats=MAKE.stats(ready=ready or 0),
            error="gone" if ready is None else "",
            seconds=seconds,
        )
        found, self.memory = decide(self.spec, observation, self.memory)
        self.last = found
        self.wanted = found.desired
        return found.desired


def test_up_at_once_and_down_after_a_delay() -> None:
    story = Story()

    assert [story.at(t, n) for t, n in [(0, 1), (1, 50), (2, 3), (30, 3)]] == [1, 50, 50, 50]
    assert story.last.limited_by == "Stabilisation"
    assert story.last.hold_seconds == 1
    assert story.at(31, 3) == 3


def test_a_saw_tooth_does_not_flap() -> None:
    story = Story()
    wanted = [story.at(t, 10 if t % 20 < 10 else 0) for t in range(200)]

    assert set(wanted) == {10}


def test_it_falls_to_what_was_needed_within_the_window_not_to_the_last_number() -> None:
    story = Story()
    for t, n in [(0, 9), (10, 4), (20, 0)]:
        story.at(t, n)

    assert [story.at(t, 0) for t in (29, 30, 39, 40, 49, 50)] == [9, 4, 4, 0, 0, 0]


def test_without_a_delay_it_follows_at_once() -> None:
    story = Story(scaleDownDelaySeconds=0)

    assert [story.at(t, n) for t, n in [(0, 5), (1, 0), (2, 1)]] == [5, 0, 1]


def test_workers_found_at_the_first_glance_are_not_stopped_by_it() -> None:
    story = Story()
    story.wanted = 7

    assert story.at(0, 0) == 7
    assert story.at(30, 0) == 0


def test_the_end_of_an_outage_does_not_stop_workers_at_once() -> None:
    story = Story()
    story.at(0, 6)
    assert [story.at(t, None) for t in range(1, 120)] == [6] * 119
    assert story.at(120, 0) == 6
    assert story.at(149, 0) == 0


@given(
    st.lists(st.tuples(st.integers(0, 20), st.one_of(st.none(), st.integers(0, 40))), max_size=40),
    st.integers(0, 5),
    st.integers(5, 20),
    st.integers(0, 60),
)
def test_whatever_happens(
    steps: list[tuple[int, int | None]], least: int, most: int, delay: int
) -> None:
    """Always within the bounds; never fewer than needed now; never down on an unread number."""
    story = Story(minReplicas=least, maxReplicas=most, scaleDownDelaySeconds=delay)
    seconds = 0.0
    for pause, ready in steps:
        seconds += pause
        before = story.wanted
        desired = story.at(seconds, ready)
        if ready is None:
            assert desired == before
        else:
            assert least <= desired <= most
            assert desired >= min(most, ready)


@pytest.mark.parametrize(
    ("stats", "wanted", "spec", "lines"),
    [
        (
            {"ready": 12, "leased": 3, "oldest_ready_ms": 4200},
            2,
            {},
            [
                "12 ready + 3 leased + 0 due = 15 messages",
                "15 / 10 at once in each worker = 2 workers needed",
                "at least 0, at most 10",
                "2 workers desired: just what the messages need",
                "the oldest ready message has waited 4 s, within the 10 s of startWaitSeconds",
            ],
        ),
        (
            {"ready": 500, "oldest_ready_ms": 15000},
            4,
            {"autoscaling": {"maxReplicas": 4}},
            [
                "500 ready + 0 leased + 0 due = 500 messages",
                "500 / 10 at once in each worker = 50 workers needed",
                "at least 0, at most 4",
                "4 workers desired: autoscaling.maxReplicas limits them; 50 would be needed",
                "the oldest ready message has waited 15 s, over the 10 s of startWaitSeconds",
            ],
        ),
        (
            {},
            1,
            {},
            [
                "0 ready + 0 leased + 0 due = 0 messages",
                "0 / 10 at once in each worker = 0 workers needed",
                "at least 0, at most 10",
                "1 worker desired: more were needed lately; fewer in 30 s at the earliest",
            ],
        ),
        (
            None,
            1,
            {},
            [
                "the broker does not answer, so nothing is known of the queue",
                "1 worker kept until it does",
            ],
        ),
    ],
)
def test_explain(
    stats: dict[str, Any] | None, wanted: int, spec: dict[str, Any], lines: list[str]
) -> None:
    assert explain(decision(stats, wanted=wanted, **spec)) == lines


def test_explain_knows_every_limit() -> None:
    cases: list[tuple[dict[str, Any], int, dict[str, Any], str]] = [
        ({}, 0, {"autoscaling": {"minReplicas": 1}}, "minReplicas keeps"),
        ({}, 0, {"replicas": 2}, "set by replicas"),
        ({}, 2, {"paused": True}, "is paused"),
    ]
    for stats, wanted, spec, words in cases:
        assert words in "\n".join(explain(decision(stats, wanted=wanted, **spec)))
