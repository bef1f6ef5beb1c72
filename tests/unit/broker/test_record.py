"""The record: a policy as fields, and the order in which priorities take turns."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.broker.record import record_fields, serving_order
from celeriac.spec.policies import PriorityPolicy, QueuePolicy


def fields(**policy: Any) -> dict[str, str]:
    return record_fields(QueuePolicy.model_validate(policy))


def weighted(high: int, normal: int, low: int) -> str:
    return serving_order(
        PriorityPolicy.model_validate(
            {"mode": "Weighted", "weights": {"high": high, "normal": normal, "low": low}}
        )
    )


def test_the_fields_say_what_the_policy_says() -> None:
    record = fields(
        deadLetter={"maxDeliveries": 7, "maxMessages": 9},
        limits={"maxMessages": 11, "maxMessageBytes": 2048},
        paused=True,
    )
    policy = QueuePolicy.model_validate_json(record.pop("policy"))
    assert policy.dead_letter.max_deliveries == 7
    assert record == {
        "paused": "1",
        "order": "h" * 19 + "n" + "h" * 19 + "l",
        "layout": "1",
        "maxDeliveries": "7",
        "isolateAfter": "2",
        "deadMessages": "9",
        "maxMessages": "11",
        "maxMessageBytes": "2048",
    }


def test_the_policy_comes_back_whole() -> None:
    policy = QueuePolicy.model_validate(
        {"retry": {"byError": [{"error": "KeyError", "action": "Discard"}], "maxAttempts": 3}}
    )
    assert QueuePolicy.model_validate_json(record_fields(policy)["policy"]) == policy


def test_equal_policies_make_equal_records() -> None:
    assert fields() == fields(paused=False, priority={"mode": "Strict"})
    assert fields() != fields(retry={"maxAttempts": 4})


@pytest.mark.parametrize(("most", "after"), [(1, 1), (2, 1), (3, 2), (5, 2), (1000, 2)])
def test_a_suspect_is_isolated_before_it_can_take_a_neighbour_over_the_limit(
    most: int, after: int
) -> None:
    assert fields(deadLetter={"maxDeliveries": most})["isolateAfter"] == str(after)
    assert after < most or most == 1


@pytest.mark.parametrize(
    ("bound", "order"), [(1, "hnl"), (2, "hnhl"), (3, "hhnhhl"), (20, ("h" * 19 + "nh" * 19)[:20])]
)
def test_strict_gives_one_turn_in_so_many_to_the_lower_priorities(bound: int, order: str) -> None:
    made = serving_order(PriorityPolicy(starvation_bound=bound))
    assert made.startswith(order)
    assert {"n", "l"} <= set(made)


@given(st.integers(1, 1000))
def test_strict_never_makes_the_lower_priorities_wait_longer_than_the_bound(bound: int) -> None:
    order = serving_order(PriorityPolicy(starvation_bound=bound))
    lower = [n for n, letter in enumerate(order * 2) if letter != "h"]
    assert all(later - earlier <= max(bound, 2) for earlier, later in pairwise(lower))


def test_weighted_takes_smooth_turns() -> None:
    assert weighted(6, 3, 1) == "hnhhnhlhnh"
    assert weighted(1, 1, 1) == "hnl"


@given(st.lists(st.integers(1, 100), min_size=3, max_size=3))
def test_weighted_gives_each_priority_exactly_its_weight_in_a_cycle(weights: list[int]) -> None:
    low, normal, high = sorted(weights)
    order = weighted(high, normal, low)
    assert Counter(order) == {"h": high, "n": normal, "l": low}
    total = high + normal + low
    for letter, weight in (("h", high), ("n", normal), ("l", low)):
        at = [n for n, turn in enumerate(order * 2) if turn == letter]
        gaps = [later - earlier for earlier, later in pairwise(at)]
        assert max(gaps, default=1) <= 2 * total / weight
