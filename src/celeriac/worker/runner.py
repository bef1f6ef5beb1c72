"""Runs attempts: a leased message goes in, user code runs under Celery's tracer, a settlement comes out."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app import trace
from celery.exceptions import Ignore, Reject, Retry
from celery.worker import state as worker_state

from celeriac.broker.capture import current as current_capture
from celeriac.broker.message import (
    DeadLetter,
    Discard,
    Failure,
    Message,
    Outcome,
    Postpone,
    RetryAt,
    Settlement,
)
from celeriac.broker.queue import Queue
from celeriac.client import progress
from celeriac.spec.policies import QueuePolicy
from celeriac.worker import notify
from celeriac.worker.attempt import Attempt, PolicyInfo, now_ms
from celeriac.worker.awaiting import Finish, as_functions, await_for_celery, is_coroutine
from celeriac.worker.decoder import UNKNOWN_TASK, Call, Decoder, Undeliverable
from celeriac.worker.limits import KeepsLimits
from celeriac.worker.rate_limits import RateLimits

logger = logging.getLogger(__name__)

#: A message whose task is unknown here is asked for again after this.
UNKNOWN_AGAIN_MS = 1000
_UNKNOWN_MARK = f'{{"reason":"{UNKNOWN_TASK}"'.encode()


class AttemptRunner:
    """Runs attempts in this process. Safe to call from many threads at once."""

    def __init__(
        self,
        *,
        app: Celery,
        queue: Queue,
        worker: str,
        decoder: Decoder,
        policy: Callable[[], QueuePolicy],
        progress_sink: Callable[[Message], progress.ProgressSink],
        limits: KeepsLimits | None = None,
        rates: RateLimits | None = None,
        finish: Finish = asyncio.run,
    ) -> None:
        self.app = app
        self.queue = queue
        self.worker = worker
        self.policy = policy
        self._progress_sink = progress_sink
        self._limits = limits
        self._decoder = decoder
        self._rates = rates if rates is not None else RateLimits(app)
        self._limited = self._rates.tasks
        self._tracers: dict[str, Any] = {}
        self._preparing = threading.Lock()
        await_for_celery(app, finish)

    def run(self, message: Message) -> Settlement:
        """Run one message to its end and return what it leads to."""
        try:
            call = self._decoder.decode(message)
        except Undeliverable as error:
            later = self._left_to_others(message, error)
            if later is not None:
                return Settlement(message, later)
            logger.error("%s[%s] is undeliverable: %s", message.task, message.id, error)
            notify.undeliverable(self.app, message, error)
            return _undeliverable(message, error, self.worker)
        if message.id in worker_state.revoked:
            with notify.harmless(message):
                notify.revoked(call.task, call.context(), reason="revoked")
            return Settlement(message, Discard("revoked"))
        if message.task in self._limited and (
            later := self._rates.wait(message, worker=self.worker)
        ):
            return Settlement(message, later)
        attempt = self._attempt(message, call)
        sink = progress.current.set(self._progress_sink(message))
        try:
            outcome = self._trace(attempt, call)
        finally:
            progress.current.reset(sink)
        return attempt.settlement(outcome)

    def _left_to_others(self, message: Message, error: Undeliverable) -> Postpone | None:
        """Let newer workers have a message whose task is not known here, until it has waited long enough."""
        grace_ms = self.policy().dead_letter.unknown_task_seconds * 1000
        if error.reason != UNKNOWN_TASK or not grace_ms:
            return None
        now, since = now_ms(), _unknown_since(message)
        if since is None:
            text = "%s[%s] is left to other workers for %d s: %s"
            logger.warning(text, message.task, message.id, grace_ms // 1000, error)
            failure = Failure(reason=UNKNOWN_TASK, worker=self.worker, started_ms=now, ended_ms=now)
            return Postpone(delay_ms=UNKNOWN_AGAIN_MS, failure=failure)
        return Postpone(delay_ms=UNKNOWN_AGAIN_MS) if now - since < grace_ms else None

    def _attempt(self, message: Message, call: Call) -> Attempt:
        attempt = Attempt(runner=self, message=message, call=call, started_ms=now_ms())
        call.request["celeriac"] = attempt
        return attempt

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
        with notify.harmless(attempt.message):
            if isinstance(outcome, RetryAt):
                notify.retried(call.task, call.context(), plain, when=outcome.delay_ms / 1000)
            else:
                notify.failed(call.task, call.context(), plain)
        return outcome

    def _prepare(self, task: Any) -> Any:
        with self._preparing:  # once: what is wrapped twice is not what it was
            if task.name not in self._tracers:
                _let_attempts_take_retries(task)
                self._tracers[task.name] = self._build(task)
        return self._tracers[task.name]

    def _build(self, task: Any) -> Any:
        # Looked up now: APMs (Sentry) put theirs in its place when the worker's signals call them.
        tracer = trace.build_tracer(
            task.name, task, self.app.loader, self.worker, app=self.app, Info=PolicyInfo
        )
        if is_coroutine(task):
            tracer = as_functions(tracer)
        # Celery itself calls __trace__ for tasks that run inside others.
        task.__trace__ = tracer
        return tracer


def _let_attempts_take_retries(task: Any) -> None:
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


def _unknown_since(message: Message) -> int | None:
    """When a message was first found to be unknown, in ms since the epoch, if that is the last it met."""
    if not message.history.startswith(_UNKNOWN_MARK):
        return None
    line = json.loads(message.history.partition(b"\n")[0])
    return int(line.get("endedMs", 0))


def _as_exception(error: BaseException) -> Exception:
    # Result backends can only keep exceptions.
    return RuntimeError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)


def _outcome_of(info: Any) -> Outcome:
    outcome: Outcome = info.outcome
    return outcome


def _undeliverable(message: Message, error: Undeliverable, worker: str) -> Settlement:
    now = now_ms()
    failure = Failure(
        reason=error.reason,
        error=type(error.__cause__ or error).__name__,
        message=str(error),
        worker=worker,
        started_ms=now,
        ended_ms=now,
    )
    return Settlement(message, DeadLetter(reason=error.reason, failure=failure))
