"""Policies: their defaults are DESIGN's, and their rules refuse what makes no sense."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from celeriac.spec.policies import (
    Backoff,
    ErrorRule,
    Limits,
    PriorityWeights,
    QueuePolicy,
    RetryPolicy,
)


def test_a_policy_survives_the_way_to_the_record_and_back() -> None:
    policy = QueuePolicy(
        retry=RetryPolicy(max_attempts=3, by_error=[ErrorRule(error="KeyError", action="Discard")]),
        paused=True,
    )

    assert QueuePolicy.model_validate_json(policy.model_dump_json(by_alias=True)) == policy


def test_the_wire_speaks_camel_case() -> None:
    assert set(QueuePolicy().model_dump(by_alias=True)["deadLetter"]) == {
        "maxDeliveries",
        "retentionSeconds",
        "maxMessages",
        "unknownTaskSeconds",
    }


@pytest.mark.parametrize(
    "make",
    [
        lambda: Backoff(initial_seconds=40, max_seconds=32),
        lambda: Backoff(jitter_percent=101),
        lambda: PriorityWeights(high=1, normal=2, low=1),
        lambda: PriorityWeights(high=3, normal=1, low=2),
        lambda: ErrorRule(error="KeyError", action="DeadLetter", max_attempts=2),
        lambda: ErrorRule(error="not a class"),
        lambda: Limits(max_message_bytes=10),
        lambda: RetryPolicy(max_attempts=0),
        lambda: RetryPolicy.model_validate({"maxAttempts": "5"}),
        lambda: RetryPolicy.model_validate({"maxAttempts": 5.0}),
        lambda: RetryPolicy.model_validate({"maxAttempts": True}),
        lambda: RetryPolicy.model_validate({"attempts": 5}),
    ],
)
def test_what_makes_no_sense_is_refused(make: object) -> None:
    with pytest.raises(ValidationError):
        make()  # type: ignore[operator]


def test_a_broken_rule_says_what_to_do() -> None:
    with pytest.raises(ValidationError, match="raise maxSeconds or lower it"):
        Backoff(initial_seconds=40)


def test_a_policy_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        QueuePolicy().paused = True
