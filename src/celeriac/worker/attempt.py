"""One attempt: a leased message goes in, user code runs under Celery's tracer, a settlement comes out.

Celery's tracer fires the signals, keeps ``self.request``, stores results and calls canvas callbacks, as in
any Celery worker. We supply its ``Info`` class, which is where the tracer asks what an exception means:
there the queue's policy turns a failure into a retry before Celery records it, so result backends and
signals see a retry and not a failure that is later taken back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import random
from typing import Any

from celery import Celery, states
from celery.app.task import Context
from celery.app.trace import TraceInfo, build_tracer
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.worker import state as worker_state
from kombu.exceptions import ContentDisallowed
from kombu.serialization import loads, prepare_accept_content
from kombu.utils.json import loads as load_json

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
from celeriac.client import envelope, progress
from celeriac.spec.policies import QueuePolicy
from celeriac.worker.failure import describe
from celeriac.worker.limits import TimeLimits
from celeriac.worker.outcome import decide

logger = logging.getLogger(__name__)

_JSON = "application/json"

# Celery takes every request field that Context does not know for a header of the user's, and would send
# our attempt along with whatever the task publishes.
Context.celeriac = None


class Undeliverable(Exception):
    """A message that can never run: the dead letters get it, with ``reason``."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(slots=True)
class Attempt:
    """The attempt that is running now, as the tracer and ``task.retry()`` see it."""

    runner: AttemptRunner
    message: Message
    max_attempts: int | None
    started_ms: int
    captured: NewMessage | None = None
    gave_up: bool = False

    def offer(self, queue_name: str, message: NewMessage) -> bool:
        """Take the message that ``task.retry()`` publishes: it is settled with this one, in one step."""
        if queue_name != self.runner.queue_name or message.id != self.message.id:
            return False
        self.captured = message
        return True

    def outcome_of(self, error: BaseException) -> Outcome:
        """Ask the queue's policy what a failure of user code leads to."""
        failure = self.describe(error, reason="failed")
        if self.gave_up:
            # task.retry() refused another round: the user's own limit comes before the queue's.
            return DeadLetter(reason="attempts_exhausted", failure=failure)
        return decide(
            error=error,
            attempt=self.message.attempt + 1,
            policy=self.runner.policy().retry,
            failure=failure,
            max_attempts=self.max_attempts,
            random=random,
        )

    def outcome_of_retry(self, retry: Retry) -> Outcome:
        """Turn the Retry that user code raised into an outcome."""
        if self.captured is None:
            return DONE  # it went to another queue, and was published there
        failure = self.describe(retry.exc or retry, reason="retry_requested")
        new = self.captured
        return RetryAt(delay_ms=new.delay_ms, failure=failure, head=new.head, body=new.body)

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
        attempt: Attempt = req.celeriac
        if self.state == states.RETRY:
            self.outcome = attempt.outcome_of_retry(self.retval)
        else:
            self.outcome = attempt.outcome_of(self.retval)
            if isinstance(self.outcome, RetryAt):
                self.state = states.RETRY
                self.retval = Retry(exc=self.retval, when=self.outcome.delay_ms / 1000)
                call_errbacks = False
        return super().handle_error_state(task, req, eager=eager, call_errbacks=call_errbacks)

    def handle_reject(self, task: Any, req: Any, **kwargs: Any) -> None:
        self.outcome = _rejected(self.retval, req.celeriac)

    def handle_ignore(self, task: Any, req: Any, **kwargs: Any) -> None:
        self.outcome = DONE


class AttemptRunner:
    """Runs attempts in this process. Safe to call from many threads at once."""

    def __init__(
        self,
        *,
        app: Celery,
        queue_name: str,
        worker: str,
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
        self._accept = prepare_accept_content(app.conf.accept_content)
        self._plain_json = _JSON in self._accept
        self._tracers: dict[str, Any] = {}

    def run(self, message: Message) -> Settlement:
        """Run one message to its end and return what it leads to."""
        try:
            task, request, args, kwargs, max_attempts = self._open(message)
        except Undeliverable as error:
            logger.error("%s[%s] is undeliverable: %s", message.task, message.id, error)
            return _undeliverable(message, error, self.worker)
        if message.id in worker_state.revoked:
            task.backend.mark_as_revoked(message.id, "revoked", request=None, store_result=True)
            return Settlement(message, Discard("revoked"))
        attempt = Attempt(
            runner=self, message=message, max_attempts=max_attempts, started_ms=_now_ms()
        )
        request["celeriac"] = attempt
        sink = progress.current.set(self._progress_sink(message))
        started = time.monotonic()
        try:
            outcome = self._trace(task, attempt, args, kwargs, request)
        finally:
            progress.current.reset(sink)
        return Settlement(message, outcome, int((time.monotonic() - started) * 1000))

    def _trace(
        self, task: Any, attempt: Attempt, args: Any, kwargs: Any, request: dict[str, Any]
    ) -> Outcome:
        tracer = self._tracers.get(task.name) or self._prepare(task)
        try:
            if self._limits is None:
                info = tracer(attempt.message.id, args, kwargs, request)[1]
            else:
                with self._limits.kept(attempt.message, task, request, attempt.max_attempts):
                    info = tracer(attempt.message.id, args, kwargs, request)[1]
        except Reject as error:
            return _rejected(error, attempt)
        except (MemoryError, SystemExit, KeyboardInterrupt, SoftTimeLimitExceeded) as error:
            # These pass through Celery's tracer. One task must not end the worker for all others.
            return attempt.outcome_of(error)
        return DONE if info is None else _outcome_of(info)

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

    def _open(self, message: Message) -> tuple[Any, dict[str, Any], Any, Any, int | None]:
        task = self.app.tasks.get(message.task)
        if task is None:
            raise Undeliverable(
                "unknown_task",
                f"the app {self.app.main!r} has no task named {message.task!r}; is its module imported?",
            )
        try:
            headers, properties, content_type, encoding = envelope.decode(
                message.head, message.id, message.task
            )
            args, kwargs, embed = self._body(message.body, content_type, encoding)
        except ContentDisallowed as error:
            raise Undeliverable(
                "content_disallowed", f"{error}; see the app's accept_content"
            ) from error
        except Exception as error:
            raise Undeliverable(
                "undecodable", f"the body cannot be read: {type(error).__name__}: {error}"
            ) from error
        request: dict[str, Any] = {
            **headers,
            **(embed or {}),
            "id": message.id,
            "task": message.task,
            "retries": message.attempt,
            "hostname": self.worker,
            "is_eager": False,
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id", message.id),
            "delivery_info": {
                "exchange": "",
                "routing_key": self.queue_name,
                "queue": self.queue_name,
                "priority": properties.get("priority"),
                "redelivered": message.delivery > 1,
                "delivery": message.delivery,
            },
        }
        limit = headers.get("max_attempts")
        return task, request, args, kwargs, limit if isinstance(limit, int) else None

    def _body(self, body: bytes, content_type: str, encoding: str) -> tuple[Any, Any, Any]:
        if content_type == _JSON and self._plain_json:
            loaded = load_json(body)
        else:
            loaded = loads(body, content_type, encoding, accept=self._accept)
        args, kwargs, embed = loaded
        return tuple(args), dict(kwargs), embed


def _rejected(error: Any, attempt: Attempt) -> Outcome:
    cause = error.reason if isinstance(error.reason, BaseException) else error
    failure = attempt.describe(cause, reason="rejected")
    if not error.requeue:
        return DeadLetter(reason="rejected", failure=failure)
    # A requeue that never ends is a poison message by another name.
    if attempt.message.delivery >= attempt.runner.policy().dead_letter.max_deliveries:
        return DeadLetter(reason="delivery_limit", failure=failure)
    return RetryAt(delay_ms=0, failure=failure)


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
