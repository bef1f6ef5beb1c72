"""What the state machine draws: messages, outcomes, policies, junk, and the deaths of clients."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from celeriac.broker.message import (
    DONE,
    PRIORITIES,
    DeadLetter,
    Discard,
    Failure,
    NewMessage,
    Postpone,
    Priority,
    RetryAt,
)
from celeriac.spec.policies import QueuePolicy
from tests.contract.broker.model_state import MINUTE_MS

IDS = ["m1", "m2", "m3", "m4", "m5", "m6", "m1#1"]
GARBAGE: list[dict[Any, Any]] = [
    {"anything": "else"},
    dict(zip("pitqadlxyhb", ["x", "m1", "t", "1", "0", "0", "0", "0", "", "", ""], strict=True)),
    dict(zip("pitqadlxyhb", ["i", "m1", "t", "1", "0", "0", "0", "0", "", "", ""], strict=True)),
    dict(
        zip("pitqadlxyhb", ["n", "m1", "t", "1", "0x1", "1.5", "0", "0", "", "", ""], strict=True)
    ),
]


def policy(**fields: Any) -> QueuePolicy:
    return QueuePolicy.model_validate(fields)


POLICIES = {
    "default": policy(),
    "paused": policy(paused=True),
    "weighted": policy(priority={"mode": "Weighted"}),
    "fair": policy(priority={"starvationBound": 2}, deadLetter={"maxDeliveries": 2}),
    "severe": policy(deadLetter={"maxDeliveries": 1, "maxMessages": 2}),
    "small": policy(
        deadLetter={"maxDeliveries": 3}, limits={"maxMessages": 6, "maxMessageBytes": 1024}
    ),
}

policies = st.sampled_from([name for name in POLICIES if name != "paused"] * 2 + ["paused"])
run_times = st.sampled_from([None, 0, 5, 6, 70, 10**8])
consumers = st.sampled_from(["a", "b", "c"])
fates = st.sampled_from(
    [None] * 10 + [("cut", 0), ("unanswered", 0), ("cut", 1), ("unanswered", 1), ("unanswered", 2)]
)
numbers = st.lists(st.integers(0, 20), min_size=1, max_size=5)
# Odd minutes, where the clock is moved by even ones: nothing is due just now.
delays = st.sampled_from([0] * 6 + [1, 3, 3001])


def new_message(
    name: str, priority: Priority, size: int, delay: int, ttl_ms: int, dedup: str
) -> NewMessage:
    """Make a message; the delay is in minutes, a dedup key holds for three."""
    return NewMessage(
        id=name,
        task="t",
        body=b"b" * size,
        head=b"h",
        priority=priority,
        delay_ms=delay * MINUTE_MS,
        ttl_ms=ttl_ms,
        dedup_key=dedup,
        dedup_ttl_ms=3 * MINUTE_MS if dedup else 0,
    )


def retry(delay: int, failure: Failure | None, head: bytes | None, body: bytes | None) -> RetryAt:
    """Make a retry; the delay is in minutes."""
    return RetryAt(delay_ms=delay * MINUTE_MS, failure=failure, head=head, body=body)


new_messages = st.builds(
    new_message,
    st.sampled_from(IDS),
    st.sampled_from(PRIORITIES),
    st.sampled_from([1, 1, 1, 1, 1023, 1024]),
    delays,
    st.sampled_from([0] * 6 + [1, 10**9]),
    st.sampled_from(["", "", "", "k1", "k2"]),
)
failures = st.sampled_from([None, Failure(reason="error"), Failure(reason="timeout", error="E")])
outcomes = st.one_of(
    st.just(DONE),
    st.builds(
        retry,
        delays,
        failures,
        st.sampled_from([None, b"", b"head"]),
        st.sampled_from([None, b"body"]),
    ),
    st.builds(lambda failure: DeadLetter(reason="attempts_exhausted", failure=failure), failures),
    st.just(Discard("revoked")),
    st.builds(
        lambda delay, failure: Postpone(delay_ms=max(1, delay) * MINUTE_MS, failure=failure),
        delays,
        failures,
    ),
)
five_outcomes = st.lists(outcomes, min_size=5, max_size=5)
