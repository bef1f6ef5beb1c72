"""How far ahead a worker claims: far for short tasks, not at all for long ones."""

from __future__ import annotations

import pytest

from celeriac.worker.prefetch import LARGEST, TARGET_S, Prefetch


def _after(runs: list[float], *, slots: int = 4) -> int:
    prefetch = Prefetch(slots)
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
