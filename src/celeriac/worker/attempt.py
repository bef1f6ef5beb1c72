"""One attempt at a message, and what its end means: the queue's policy, inside Celery's tracer.

Celery's tracer fires the signals, keeps ``self.request``, stores results and calls canvas callbacks, as in
any Celery worker. We supply its ``Info`` class, which is where the tracer asks what an exception means:
there the queue's policy turns a failure into a retry before Celery records it, so result backends and
signals see a retry and not a failure that is later taken back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import random
from typing import Any, Protocol

from celery import states
from celery.app.trace import TraceInfo
from celery.exceptions import Reject, Retry

from celeriac.broker.message import (
    DONE,
    DeadLetter,
    Failure,
    Message,
    NewMessage,
    Outcome,
    RetryAt,
    Settlement,
)
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy
from celeriac.worker import notify
from celeriac.worker.decoder import Call
from celeriac.worker.failure import describe
from celeriac.worker.outcome import decide


class Runner(Protocol):
    """What an attempt asks of who runs it."""

    queue: Queue
    worker: str

    @property
    def policy(self) -> Callable[[], QueuePolicy]:
        """The queue's policy as it is now."""


@dataclass(slots=True)
class Attempt:
    """The attempt that is running now, as the tracer and ``task.retry()`` see it."""

    runner: Runner
    message: Message
    call: Call
    started_ms: int
    started: float = field(default_factory=time.monotonic)
    reason: str = "failed"
    """What the history says of a failure."""
    captured: NewMessage | None = None
    gave_up: bool = False
    requeued: bool = False

    def offer(self, queue_name: str, message: NewMessage) -> bool:
        """Take the message that ``task.retry()`` publishes: it is settled with this one, in one step."""
        if queue_name != self.runner.queue.name or message.id != self.message.id:
            return False
        self.captured = message
        return True

    def outcome_of(self, error: BaseException) -> Outcome:
        """Ask the queue's policy what a failure of user code leads to."""
        failure = self.describe(error, reason=self.reason)
        if self.captured is not None:
            # retry(throw=False) and then an error: the retry was sent, as far as the user can tell.
            return self.captured_retry(failure)
        if self.gave_up:
            # task.retry() refused another round: the user's own limit comes before the queue's.
            return DeadLetter(reason="attempts_exhausted", failure=failure)
        return decide(
            error=error,
            attempt=self.message.attempt + 1,
            policy=self.runner.policy().retry,
            failure=failure,
            max_attempts=self.call.max_attempts,
            random=random,
        )

    def outcome_of_retry(self, retry: Retry) -> Outcome:
        """Turn the Retry that user code raised into an outcome."""
        if self.captured is None:
            return DONE  # it went to another queue, and was published there
        return self.captured_retry(self.describe(retry.exc or retry, reason="retry_requested"))

    def captured_retry(self, failure: Failure) -> Outcome:
        """Settle with the message that ``task.retry()`` would have published."""
        new = self.captured
        assert new is not None
        head = _with_retries(new.head, self.call.retries_before)
        # Other words under the same id: whoever changes them has to sign them.
        head = self.runner.queue.sign(self.message.id, self.message.task, head, new.body)
        return RetryAt(delay_ms=new.delay_ms, failure=failure, head=head, body=new.body)

    def outcome_of_return(self) -> Outcome:
        """The outcome of user code that raised nothing; it may have called ``retry(throw=False)``."""
        if self.captured is None:
            return DONE
        return self.captured_retry(Failure(reason="retry_requested", worker=self.runner.worker))

    def outcome_of_reject(self, error: Reject) -> Outcome:
        """Turn the Reject that user code raised into an outcome."""
        cause = error.reason if isinstance(error.reason, BaseException) else error
        failure = self.describe(cause, reason="rejected")
        if not error.requeue:
            return DeadLetter(reason="rejected", failure=failure)
        # A requeue that never ends is a poison message by another name.
        if self.message.last:
            return DeadLetter(reason="delivery_limit", failure=failure)
        self.requeued = True
        return RetryAt(delay_ms=0, failure=failure)

    def settlement(self, outcome: Outcome) -> Settlement:
        """Settle the message; one that is handed back counts as a delivery and not as an attempt."""
        # It knows this attempt: a circle, which the garbage collector would have to find.
        self.call.request = {}
        if self.requeued:
            return Settlement(self.message, outcome)
        return Settlement(self.message, outcome, int((time.monotonic() - self.started) * 1000))

    def describe(self, error: BaseException, *, reason: str) -> Failure:
        """Describe an error of this attempt for the history."""
        return describe(
            error,
            reason=reason,
            worker=self.runner.worker,
            started_ms=self.started_ms,
            ended_ms=now_ms(),
        )


class PolicyInfo(TraceInfo):  # type: ignore[misc]
    """Celery's record of an exception, with the outcome that our policy gives it."""

    state: Any
    retval: Any
    outcome: Outcome

    def handle_error_state(
        self, task: Any, req: Any, eager: bool = False, call_errbacks: bool = True
    ) -> Any:
        attempt: Attempt | None = req.celeriac
        if attempt is None:
            pass  # not one of our messages: user code calls Celery's tracer itself
        elif self.state == states.RETRY:
            self.outcome = attempt.outcome_of_retry(self.retval)
        else:
            self.outcome = attempt.outcome_of(self.retval)
            if isinstance(self.outcome, RetryAt):
                self.state = states.RETRY
                self.retval = Retry(exc=self.retval, when=self.outcome.delay_ms / 1000)
                call_errbacks = False
        return super().handle_error_state(task, req, eager=eager, call_errbacks=call_errbacks)

    def handle_reject(self, task: Any, req: Any, **kwargs: Any) -> None:
        super().handle_reject(task, req, **kwargs)
        self.outcome = req.celeriac.outcome_of_reject(self.retval)
        if isinstance(self.outcome, DeadLetter):
            notify.rejected(task, req, self.retval)

    def handle_ignore(self, task: Any, req: Any, **kwargs: Any) -> None:
        super().handle_ignore(task, req, **kwargs)
        self.outcome = req.celeriac.outcome_of_return()


def _with_retries(head: bytes, retries: int) -> bytes:
    """Take back the count that ``retry()`` raised: the queue counts, so that a redrive starts afresh."""
    loaded = json.loads(head)
    headers = loaded["h"]
    headers.pop("retries", None)
    if retries:
        headers["retries"] = retries
    if not headers:
        del loaded["h"]
    return json.dumps(loaded, separators=(",", ":"), ensure_ascii=False).encode() if loaded else b""


def now_ms() -> int:
    """Milliseconds since the epoch, by this machine's clock."""
    return time.time_ns() // 1_000_000
