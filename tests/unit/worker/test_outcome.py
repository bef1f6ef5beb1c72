"""What a failed attempt leads to, as a table."""

from __future__ import annotations

import smtplib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.broker.message import DeadLetter, Discard, Failure, Outcome, RetryAt
from celeriac.spec.policies import Backoff, RetryPolicy
from celeriac.worker.outcome import backoff_ms, decide

FAILURE = Failure(reason="error", error="E")
GIVEN_UP = DeadLetter(reason="attempts_exhausted", failure=FAILURE)


class Busy(Exception):
    """An error that says when to come back."""

    def __init__(self, retry_after: object) -> None:
        super().__init__()
        self.retry_after = retry_after


def outcome(
    error: BaseException,
    attempt: int = 1,
    *,
    max_attempts: int | None = None,
    random: float = 0.0,
    **policy: Any,
) -> Outcome:
    return decide(
        error=error,
        attempt=attempt,
        policy=RetryPolicy.model_validate(policy),
        failure=FAILURE,
        max_attempts=max_attempts,
        random=lambda: random,
    )


def rule(error: str, **fields: Any) -> dict[str, Any]:
    return {"error": error, **fields}


def retry(seconds: float) -> RetryAt:
    return RetryAt(delay_ms=int(seconds * 1000), failure=FAILURE)


def test_five_attempts_wait_2_4_8_and_16_seconds_in_between() -> None:
    assert [outcome(KeyError(), attempt) for attempt in range(1, 7)] == [
        *(retry(2), retry(4), retry(8), retry(16), GIVEN_UP, GIVEN_UP),
    ]


@pytest.mark.parametrize(
    ("message_limit", "policy_limit", "attempt", "again"),
    [
        (None, 3, 2, True),
        (None, 3, 3, False),
        (5, 3, 4, True),  # the message's own limit comes before the policy's, above it
        (5, 3, 5, False),
        (2, 3, 2, False),  # and below it
        (1, 3, 1, False),
        (None, 1, 1, False),
    ],
)
def test_the_messages_own_limit_comes_before_the_policys(
    message_limit: int | None, policy_limit: int, attempt: int, again: bool
) -> None:
    got = outcome(KeyError(), attempt, max_attempts=message_limit, maxAttempts=policy_limit)
    assert isinstance(got, RetryAt) is again
    assert again or got == GIVEN_UP


@pytest.mark.parametrize(
    ("by_error", "expected"),
    [
        ([rule("KeyError", action="Discard")], Discard("error")),
        ([rule("KeyError", action="DeadLetter")], DeadLetter(reason="error_rule", failure=FAILURE)),
        ([rule("KeyError", maxAttempts=2)], GIVEN_UP),
        ([rule("KeyError", maxAttempts=7)], retry(4)),
        ([rule("KeyError", backoff={"initialSeconds": 7})], retry(14)),
        ([rule("LookupError", action="Discard")], Discard("error")),  # a base class
        ([rule("builtins.KeyError", action="Discard")], Discard("error")),  # a dotted name
        ([rule("builtins.LookupError", action="Discard")], Discard("error")),
        ([rule("Exception", action="Discard")], Discard("error")),
        ([rule("ValueError", action="Discard")], retry(4)),  # another error
        ([rule("other.KeyError", action="Discard")], retry(4)),  # another module's
        ([rule("Error", action="Discard")], retry(4)),  # a part of the name
        ([rule("KeyError", maxAttempts=9), rule("Exception", action="Discard")], retry(4)),
        ([rule("Exception", action="Discard"), rule("KeyError", maxAttempts=9)], Discard("error")),
    ],
)
def test_the_first_rule_that_matches_the_error_comes_before_everything(
    by_error: list[dict[str, Any]], expected: Outcome
) -> None:
    assert outcome(KeyError("x"), 2, byError=by_error) == expected


def test_a_rule_for_a_librarys_base_class_matches_what_it_raises() -> None:
    rules = [rule("smtplib.SMTPResponseException", action="DeadLetter")]
    error = smtplib.SMTPAuthenticationError(535, b"no")
    assert isinstance(outcome(error, byError=rules), DeadLetter)


def test_a_rules_limit_comes_before_the_messages_own() -> None:
    rules = [rule("KeyError", maxAttempts=2)]
    assert outcome(KeyError(), 2, max_attempts=9, byError=rules) == GIVEN_UP


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        *((30, 30), (0.25, 0.25), (100_000, 3600), (float("inf"), 3600)),
        *((0, 2), (-5, 2), (float("nan"), 2), ("30", 2), (None, 2)),  # no number to go by
    ],
)
def test_an_error_may_say_when_to_come_back(asked: object, seconds: float) -> None:
    assert outcome(Busy(asked)) == retry(seconds)


def test_an_error_that_says_when_to_come_back_is_still_counted() -> None:
    assert outcome(Busy(30), 5) == GIVEN_UP


def test_jitter_only_shortens_and_by_no_more_than_its_share() -> None:
    assert outcome(KeyError(), 2, random=0.0) == retry(4)
    assert outcome(KeyError(), 2, random=0.5) == retry(3.6)
    assert outcome(KeyError(), 2, random=0.99999) == retry(3.2)
    assert outcome(KeyError(), 2, random=0.5, backoff={"jitterPercent": 0}) == retry(4)


def test_a_back_off_of_nothing_retries_at_once() -> None:
    assert outcome(KeyError(), backoff={"initialSeconds": 0, "maxSeconds": 0}) == retry(0)


@given(
    attempt=st.integers(1, 1000),
    initial=st.integers(0, 1000),
    multiplier=st.integers(1, 10),
    longer=st.integers(0, 100_000),
    jitter=st.integers(0, 100),
    random=st.floats(0, 1, exclude_max=True),
)
def test_waits_grow_up_to_the_longest_and_no_number_is_too_large(
    attempt: int, initial: int, multiplier: int, longer: int, jitter: int, random: float
) -> None:
    backoff = Backoff(
        initial_seconds=initial,
        multiplier=multiplier,
        max_seconds=initial + longer,
        jitter_percent=jitter,
    )
    wait = backoff_ms(attempt, backoff)
    assert initial * 1000 <= wait <= backoff.max_seconds * 1000
    assert wait <= backoff_ms(attempt + 1, backoff)
    got = decide(
        error=KeyError(),
        attempt=attempt,
        policy=RetryPolicy(max_attempts=1000, backoff=backoff),
        failure=FAILURE,
        max_attempts=1001,
        random=lambda: random,
    )
    assert isinstance(got, RetryAt)
    assert wait * (100 - jitter) // 100 - 1 <= got.delay_ms <= wait
