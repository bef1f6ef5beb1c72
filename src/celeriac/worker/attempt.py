"""One attempt: a leased message goes in, user code runs under Celery's tracer, a settlement comes out.

Celery's tracer fires the signals, keeps ``self.request``, stores results and calls canvas callbacks, as in
any Celery worker. We supply its ``Info`` class, which is where the tracer asks what an exception means:
there the queue's policy turns a failure into a retry before Celery records it, so result backends and
signals see a retry and not a failure that is later taken back.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import random
from typing import Any

from celery import Celery, states
from celery.app.task import Context
from celery.app.trace import TraceInfo, build_tracer
from celery.exceptions import Ignore, Reject, Retry
from celery.worker import state as worker_state

from celeriac.broker.capture import current as current_capture
from celeriac.broker.message import (
    DONE,
    DeadLetter,
    Discard,
    Failure,
    Message,
    NewMessage,
    Outcome,
    RetryAt,
    Settlement,
)
from celeriac.client import progress
from celeriac.spec.policies import QueuePolicy
from celeriac.worker import record
from celeriac.worker.failure import describe
from celeriac.worker.limits import TimeLimits
from celeriac.worker.opening import Call, Opener, Undeliverable
from celeriac.worker.outcome import decide

logger = logging.getLogger(__name__)

# Celery takes every request field that Context does not know for a header of the user's, and would send
# our attempt along with whatever the task publishes.
Context.celeriac = None


@dataclass(slots=True)
class Attempt:
    """The attempt that is running now, as the tracer and ``task.retry()`` see it."""

    runner: AttemptRunner
    message: Message
    call: Call
    started_ms: int
    captured: NewMessage | None = None
    gave_up: bool = False
    requeued: bool = False

    def offer(self, queue_name: str, message: NewMessage) -> bool:
        """Take the message that ``task.retry()`` publishes: it is settled with this one, in one step."""
        if queue_name != self.runner.queue_name or message.id != self.message.id:
            return False
        self.captured = message
        return True

    def outcome_of(self, error: BaseException) -> Outcome:
        """Ask the queue's policy what a failure of user code leads to."""
        failure = self.describe(error, reason="failed")
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
        if self.message.delivery >= self.runner.policy().dead_letter.max_deliveries:
            return DeadLetter(reason="delivery_limit", failure=failure)
        self.requeued = True
        return RetryAt(delay_ms=0, failure=failure)

    def describe(self, error: BaseException, *, reason: str) -> Failure:
        """Describe an error of this attempt for the history."""
        return describe(
            error,
            reason=reason,
            worker=self.runner.worker,
            started_ms=self.started_ms,
            ended_ms=_now_ms(),
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
            record.rejected(task, req, self.retval)

    def handle_ignore(self, task: Any, req: Any, **kwargs: Any) -> None:
        super().handle_ignore(task, req, **kwargs)
        self.outcome = req.celeriac.outcome_of_return()


class AttemptRunner:
    """Runs attempts in this process. Safe to call from many threads at once."""

    def __init__(
        self,
        *,
        app: Celery,
        queue_name: str,
        worker: str,
        opener: Opener,
        policy: Callable[[], QueuePolicy],
        progress_sink: Callable[[Message], progress.ProgressSink],
        limits: TimeLimits | None = None,
    ) -> None:
        self.app = app
        self.queue_name = queue_name
        self.worker = worker
        self.policy = policy
        self._progress_sink = progress_sink
        self._limits = limits
        self._opener = opener
        self._tracers: dict[str, Any] = {}

    def run(self, message: Message) -> Settlement:
        """Run one message to its end and return what it leads to."""
        try:
            call = self._opener.open(message)
        except Undeliverable as error:
            logger.error("%s[%s] is undeliverable: %s", message.task, message.id, error)
            record.undeliverable(self.app, message, error)
            return _undeliverable(message, error, self.worker)
        if message.id in worker_state.revoked:
            with record.harmless(message):
                record.revoked(call.task, call.context(), reason="revoked")
            return Settlement(message, Discard("revoked"))
        attempt = Attempt(runner=self, message=message, call=call, started_ms=_now_ms())
        call.request["celeriac"] = attempt
        sink = progress.current.set(self._progress_sink(message))
        started = time.monotonic()
        try:
            outcome = self._trace(attempt, call)
        finally:
            progress.current.reset(sink)
        if attempt.requeued:  # "not by me": it counts as a delivery and not as an attempt
            return Settlement(message, outcome)
        return Settlement(message, outcome, int((time.monotonic() - started) * 1000))

    def _trace(self, attempt: Attempt, call: Call) -> Outcome:
        task, message = call.task, attempt.message
        tracer = self._tracers.get(task.name) or self._prepare(task)
        try:
            if self._limits is None:
                info = tracer(message.id, call.args, call.kwargs, call.request)[1]
            else:
                with self._limits.kept(message, task, call.request, call.max_attempts):
                    info = tracer(message.id, call.args, call.kwargs, call.request)[1]
        except Reject as error:
            return attempt.outcome_of_reject(error)
        except BaseException as error:
            # One task must not end the worker for all others, whatever it raises.
            return self._untraced(attempt, call, error)
        return attempt.outcome_of_return() if info is None else _outcome_of(info)

    def _untraced(self, attempt: Attempt, call: Call, error: BaseException) -> Outcome:
        """Handle what Celery's tracer lets pass: what ends a process, and errors of its own."""
        if isinstance(error, Exception) and not isinstance(error, MemoryError):
            # The result backend is away, or the soft limit struck outside user code.
            logger.error(
                "%s[%s] ended outside its task: %r", call.task.name, call.request["id"], error
            )
            return attempt.outcome_of(error)
        outcome = attempt.outcome_of(error)
        plain = error if isinstance(error, Exception) else _as_exception(error)
        with record.harmless(attempt.message):
            if isinstance(outcome, RetryAt):
                record.retried(call.task, call.context(), plain, when=outcome.delay_ms / 1000)
            else:
                record.failed(call.task, call.context(), plain)
        return outcome

    def _prepare(self, task: Any) -> Any:
        retry = task.retry

        def capturing_retry(*args: Any, **kwargs: Any) -> Any:
            attempt = getattr(task.request, "celeriac", None)
            token = current_capture.set(attempt)
            try:
                return retry(*args, **kwargs)
            except (Retry, Reject, Ignore):
                raise
            except Exception:
                if attempt is not None:
                    attempt.gave_up = True
                raise
            finally:
                current_capture.reset(token)

        task.retry = capturing_retry
        tracer = build_tracer(
            task.name,
            task,
            self.app.loader,
            self.worker,
            app=self.app,
            Info=PolicyInfo,
        )
        # Celery itself calls __trace__ for tasks that run inside others.
        task.__trace__ = tracer
        self._tracers[task.name] = tracer
        return tracer


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


def _as_exception(error: BaseException) -> Exception:
    # Result backends can only keep exceptions.
    return RuntimeError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)


def _outcome_of(info: Any) -> Outcome:
    outcome: Outcome = info.outcome
    return outcome


def _undeliverable(message: Message, error: Undeliverable, worker: str) -> Settlement:
    now = _now_ms()
    failure = Failure(
        reason=error.reason,
        error=type(error.__cause__ or error).__name__,
        message=str(error),
        worker=worker,
        started_ms=now,
        ended_ms=now,
    )
    return Settlement(message, DeadLetter(reason=error.reason, failure=failure))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
