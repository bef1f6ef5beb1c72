"""What a failed attempt leads to: run again, and when, or the dead letters, or nothing.

Pure: the error, the count of attempts, the queue's policy and a random number go in, an outcome comes
out. Task code does not take part, so the same policy holds for any Celery app.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from celeriac.broker.message import DeadLetter, Discard, Failure, Outcome, RetryAt
from celeriac.spec.policies import Backoff, ErrorRule, RetryPolicy

#: An error may carry ``retry_after`` (seconds), as HTTP's header of that name; longer is cut to this.
LONGEST_RETRY_AFTER_S: Final = 3600


def decide(
    *,
    error: BaseException,
    attempt: int,
    policy: RetryPolicy,
    failure: Failure,
    max_attempts: int | None = None,
    random: Callable[[], float],
) -> Outcome:
    """Decide what the failed attempt number ``attempt`` (from 1) leads to.

    ``max_attempts`` is the message's own limit and comes before the policy's; a rule for the error
    comes before both.
    """
    rule = _rule_for(error, policy)
    if rule is not None and rule.action == "Discard":
        return Discard(failure.reason)
    if rule is not None and rule.action == "DeadLetter":
        return DeadLetter(reason="error_rule", failure=failure)
    limit = max_attempts or policy.max_attempts
    backoff = policy.backoff
    if rule is not None:
        limit = rule.max_attempts or limit
        backoff = rule.backoff or backoff
    if attempt >= limit:
        return DeadLetter(reason="attempts_exhausted", failure=failure)
    return RetryAt(delay_ms=_delay_ms(error, attempt, backoff, random), failure=failure)


def backoff_ms(attempt: int, backoff: Backoff) -> int:
    """The wait after failed attempt ``attempt`` (from 1) before jitter: exponential, capped."""
    seconds: int = backoff.initial_seconds * backoff.multiplier ** min(attempt - 1, 64)
    return min(seconds, backoff.max_seconds) * 1000


def _delay_ms(
    error: BaseException, attempt: int, backoff: Backoff, random: Callable[[], float]
) -> int:
    asked = getattr(error, "retry_after", None)
    if isinstance(asked, int | float) and asked > 0:
        return int(min(asked, LONGEST_RETRY_AFTER_S) * 1000)
    # Jitter only shortens, so that maxSeconds stays what it says.
    share: float = 1 - random() * backoff.jitter_percent / 100
    return round(backoff_ms(attempt, backoff) * share)


def _rule_for(error: BaseException, policy: RetryPolicy) -> ErrorRule | None:
    names = set()
    for cls in type(error).__mro__:
        names |= {cls.__name__, f"{cls.__module__}.{cls.__qualname__}"}
    return next((rule for rule in policy.by_error if rule.error in names), None)
