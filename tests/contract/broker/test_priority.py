"""In which order messages of different priorities are served, one at a time and in batches."""

from __future__ import annotations

from collections import Counter

import pytest

from celeriac.broker.message import PRIORITIES
from celeriac.broker.queue import Queue
from tests.contract.broker.handy import claim, ids, policy, some

WEIGHTED = policy(priority={"mode": "Weighted", "weights": {"high": 6, "normal": 3, "low": 1}})


def fill(queue: Queue, count: int) -> None:
    """Publish so many messages of each priority."""
    for priority in reversed(PRIORITIES):
        queue.publish(some(count, priority[0], priority=priority))


def served(queue: Queue, claims: int, count: int) -> list[str]:
    """Claim so often so many; return the priorities' letters in the order in which they came."""
    return [message.priority[0] for _ in range(claims) for message in claim(queue, count)]


def test_strict_serves_high_before_normal_before_low_and_each_in_its_order(queue: Queue) -> None:
    fill(queue, 3)
    assert ids(claim(queue, 9)) == ["h0", "h1", "h2", "n0", "n1", "n2", "l0", "l1", "l2"]


@pytest.mark.parametrize("bound", [2, 5, 20])
def test_strict_serves_a_lower_priority_at_least_once_in_so_many_claims(
    queue: Queue, bound: int
) -> None:
    queue.declare(policy(priority={"starvationBound": bound}))
    fill(queue, 6 * bound)
    order = served(queue, 6 * bound, 1)
    for start in range(len(order) - bound + 1):
        assert set(order[start : start + bound]) & {"n", "l"}
    assert Counter(order) == {"h": 6 * (bound - 1), "n": 3, "l": 3}


@pytest.mark.parametrize("count", [3, 7, 40, 100])
def test_batches_keep_the_starvation_bound_too(queue: Queue, count: int) -> None:
    fill(queue, 400)
    order = served(queue, -(-400 // count), count)
    assert Counter(order[:400])["n"] >= 9
    assert Counter(order[:400])["l"] >= 9
    assert Counter(order[:400])["h"] >= 378


def test_a_bound_of_one_takes_turns(queue: Queue) -> None:
    queue.declare(policy(priority={"starvationBound": 1}))
    fill(queue, 5)
    assert served(queue, 9, 1) == ["h", "n", "l"] * 3


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 25])
def test_weighted_shares_the_claims_out_by_weights(queue: Queue, count: int) -> None:
    queue.declare(WEIGHTED)
    fill(queue, 700)
    order = served(queue, 700 // count, count)
    exact = {"h": 0.6, "n": 0.3, "l": 0.1}
    for letter, share in exact.items():
        assert abs(Counter(order)[letter] - share * len(order)) <= 3


def test_weighted_spreads_turns_instead_of_bunching_them(queue: Queue) -> None:
    queue.declare(WEIGHTED)
    fill(queue, 60)
    order = "".join(served(queue, 40, 1))
    assert "hhhh" not in order and "nn" not in order


@pytest.mark.parametrize("kind", ["strict", "weighted"])
def test_a_share_that_nobody_needs_goes_to_the_others(queue: Queue, kind: str) -> None:
    queue.declare(policy() if kind == "strict" else WEIGHTED)
    queue.publish(some(50, "l", priority="low"))
    queue.publish(some(2, "h", priority="high"))
    first = ids(claim(queue, 20))
    assert len(first) == 20 and {"h0", "h1"} < set(first)
    assert len(claim(queue, 20)) == 20  # low alone gets everything


def test_a_changed_policy_holds_from_the_next_claim_on(queue: Queue) -> None:
    fill(queue, 200)
    assert Counter(served(queue, 10, 10))["h"] >= 95
    queue.declare(policy(priority={"starvationBound": 1}))
    assert Counter(served(queue, 10, 9)) == {"h": 30, "n": 30, "l": 30}
