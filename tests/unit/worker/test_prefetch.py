"""How far ahead a worker claims: far for short tasks, not at all for long ones."""

from __future__ import annotations

import pytest

from celeriac.worker.prefetch import (
    CALM_CLAIMS,
    FARTHEST_S,
    LARGEST,
    TARGET_S,
    TRIPS,
    URGENT_LARGEST,
    URGENT_TARGET_S,
    Prefetch,
)


def _after(runs: list[float], *, slots: int = 4, trips: tuple[float, ...] = ()) -> int:
    prefetch = Prefetch(slots)
    for trip_s in trips:
        prefetch.observe_trip(trip_s)
    for run_s in runs:
        prefetch.observe(run_s)
    return prefetch.capacity


def test_an_unknown_task_is_not_claimed_ahead() -> None:
    assert Prefetch(4).capacity == 4


@pytest.mark.parametrize("slots", [1, 4, 100])
@pytest.mark.parametrize("run_s", [0.0, 1e-6, 1e-3, 0.05, 1.0, 3600.0])
def test_what_waits_is_started_within_the_target(slots: int, run_s: float) -> None:
    capacity = _after([run_s] * 50, slots=slots)
    ahead = capacity - slots
    assert 0 <= ahead <= LARGEST
    assert ahead * run_s / slots <= TARGET_S


def test_the_shortest_tasks_are_claimed_in_large_batches() -> None:
    assert _after([10e-6] * 50) == 4 + LARGEST


def test_one_long_task_stops_the_hoarding_at_once() -> None:
    assert _after([0.001] * 50 + [1.0]) == 4


def test_trust_in_short_tasks_comes_back_slowly() -> None:
    assert _after([1.0, 0.001]) == 4
    assert 4 < _after([1.0] + [0.001] * 100) <= 4 + int(4 * TARGET_S / 0.001)


def test_a_little_variation_moves_the_mean_a_little() -> None:
    steady = _after([0.001] * 50)
    assert steady > _after([0.001] * 50 + [0.005]) > 4 + (steady - 4) // 4


def test_the_farther_the_broker_the_more_is_claimed() -> None:
    assert _after([0.01] * 50, slots=10) == 10 + 20
    far = _after([0.01] * 50, slots=10, trips=(0.1,))
    assert far == 10 + int(10 * (TARGET_S + TRIPS * 0.1) / 0.01)
    assert _after([1.0] * 50, slots=1, trips=(0.1,)) == 1, "long tasks are not hoarded for that"


def test_one_slow_answer_makes_no_broker_far() -> None:
    near = _after([0.001] * 50, trips=(0.0002,))
    assert _after([0.001] * 50, trips=(2.0, 0.0002)) == near, "the first connected, too"
    assert _after([0.001] * 50, trips=(0.0002, 5.0)) <= near + 1
    assert _after([0.001] * 50, trips=(0.0002, *[0.02] * 100)) == 4 + int(4 * 0.06 / 0.001)


def test_where_urgent_messages_come_little_is_held_for_them_to_wait_for() -> None:
    prefetch = Prefetch(1)
    for _ in range(50):
        prefetch.observe(10e-6)
    assert prefetch.capacity == 1 + LARGEST
    prefetch.observe_claim(urgent=True)
    assert prefetch.capacity == 1 + URGENT_LARGEST
    for _ in range(CALM_CLAIMS - 1):
        prefetch.observe_claim(urgent=False)
    assert prefetch.capacity == 1 + URGENT_LARGEST
    prefetch.observe_claim(urgent=False)
    assert prefetch.capacity == 1 + LARGEST


def test_it_is_so_by_time_as_well() -> None:
    prefetch = Prefetch(4)
    for _ in range(50):
        prefetch.observe(0.001)
    prefetch.observe_claim(urgent=True)
    assert prefetch.capacity == 4 + int(4 * URGENT_TARGET_S / 0.001)


def test_a_broker_that_stood_still_is_not_far_away() -> None:
    prefetch = Prefetch(4)
    assert prefetch.trip_s == 0
    prefetch.observe_trip(60)
    assert prefetch.trip_s == FARTHEST_S
    prefetch.observe_trip(0.01)
    assert prefetch.trip_s == 0.01
