"""Tells Celery's side how a message ended when its tracer could not: result backend, hooks, signals.

The tracer tells what it sees itself. It does not see a killed process, a rejected or revoked message, or
one that could not even be opened; in Celery its consumer tells of these, so in our worker it is done here.
Nothing here decides anything: the queue's outcome stands, and with the result backend away only its news
is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, signals, states
from celery.app.task import Context, get_actual_ignore_result
from celery.app.trace import TraceInfo, task_has_custom
from celery.exceptions import Reject, Retry

from celeriac.broker.message import DeadLetter, Discard, Message, Outcome, RetryAt
from celeriac.client import envelope
from celeriac.worker.decoder import Decoder, Undeliverable

logger = logging.getLogger(__name__)


def lost(decoder: Decoder, message: Message, outcome: Outcome, error: Exception) -> None:
    """Tell what became of a message whose process was killed, with ``error`` as the reason."""
    with harmless(message):
        try:
            call = decoder.decode(message)
        except Undeliverable:
            return  # too large for its parent to see whole: only the queue knows
        request = call.context()
        if isinstance(outcome, Discard):
            revoked(call.task, request, reason="terminated", terminated=True)
        elif isinstance(outcome, DeadLetter):
            failed(call.task, request, error)
        elif isinstance(outcome, RetryAt):
            retried(call.task, request, error, when=outcome.delay_ms / 1000)


def retried(task: Any, request: Context, error: Exception, *, when: float) -> None:
    """Tell that a message runs again in ``when`` seconds: backend, hook and signal."""
    _handled(task, request, TraceInfo(states.RETRY, Retry(exc=error, when=when)), error)


def failed(task: Any, request: Context, error: Exception) -> None:
    """Tell of a final failure: backend, error callbacks, chord, hooks and signals."""
    _handled(task, request, TraceInfo(states.FAILURE, error), error)
    if task_has_custom(task, "after_return"):
        task.after_return(states.FAILURE, error, request.id, request.args, request.kwargs, None)


def rejected(task: Any, request: Context, error: Reject) -> None:
    """Tell that a task rejected its message for good."""
    task.backend.mark_as_failure(
        request.id, error, request=request, store_result=_stores_errors(task, request)
    )
    signals.task_failure.send(
        sender=task,
        task_id=request.id,
        exception=error,
        args=request.args,
        kwargs=request.kwargs,
        traceback=None,
        einfo=None,
    )


def dropped(decoder: Decoder, message: Message, reason: str) -> None:
    """Tell that a message was discarded before it started: it had ``expired``, or was ``cancelled``."""
    with harmless(message):
        try:
            call = decoder.decode(message)
        except Undeliverable:
            return  # it would never have run, and the queue counts it
        revoked(call.task, call.context(), reason=reason, expired=reason == "expired")


def revoked(
    task: Any, request: Context, *, reason: str, terminated: bool = False, expired: bool = False
) -> None:
    """Tell that a message was revoked: it did not run, or it was stopped."""
    task.backend.mark_as_revoked(
        request.id, reason, request=request, store_result=_stores_errors(task, request)
    )
    signals.task_revoked.send(
        sender=task, request=request, terminated=terminated, signum=None, expired=expired
    )


def undeliverable(app: Celery, message: Message, error: Undeliverable) -> None:
    """Tell that a message can never run."""
    if error.forged:
        return  # it may name anybody's id, whose result is not to be overwritten
    with harmless(message):
        try:
            ignored = envelope.decode(message.head, message.id, message.task)[0]["ignore_result"]
        except ValueError:
            ignored = False
        if not ignored:
            app.backend.mark_as_failure(message.id, error.__cause__ or error)


def _handled(task: Any, request: Context, info: TraceInfo, error: Exception) -> None:
    try:
        raise error
    except BaseException:  # Celery takes the traceback from the error that is being handled
        info.handle_error_state(task, request, call_errbacks=info.state == states.FAILURE)


def _stores_errors(task: Any, request: Context) -> bool:
    return not get_actual_ignore_result(task, request) or bool(task.store_errors_even_if_ignored)


@contextmanager
def harmless(message: Message) -> Iterator[None]:
    """Keep going when telling fails: the queue's outcome stands."""
    try:
        yield
    except Exception:
        logger.exception("%s[%s]: its end was not recorded", message.task, message.id)
