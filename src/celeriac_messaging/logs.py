"""Structured logs: one JSON object a line, with the job it belongs to and never its payload.

What may appear is listed here rather than what may not: the fields of a record that this
application wrote itself (`fields`), and of everybody else's records only their fixed text. Of an
error that is not ours only the class and the place are written, because its text may quote what
it choked on; the full text stands in the dead letter.

Celery's own line of a retry says no more than that there is one; what a person asks then (of which
attempt, for which error, and when is the next) comes by its signals.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import celery
from celery.exceptions import Retry

from celeriac_messaging.errors import MessagingError

FRAMES = 8
OURS = "celeriac_messaging"

log = logging.getLogger("celeriac_messaging.job")


def job_context() -> dict[str, object]:
    """The job that this thread is running: its id, queue, task, attempt and delivery."""
    task = celery.current_task
    request = getattr(task, "request", None) if task else None
    if request is None or not request.id:
        return {}
    return _job(task, request)


def _job(task: Any, request: Any) -> dict[str, object]:
    info = request.delivery_info or {}
    return {
        "job": request.id,
        "queue": info.get("queue") or info.get("routing_key"),
        "task": task.name,
        "attempt": request.retries + 1,
        "delivery": info.get("delivery"),
    }


def tell_retry(sender: Any, request: Any, reason: Retry, **_: Any) -> None:
    """Log that an attempt failed and the job runs again: for Celery's signal `task_retry`."""
    fields = _job(sender, request)  # the job's own process may be gone: this one may run none
    if isinstance(reason.when, int | float):
        fields["retry_in_seconds"] = round(reason.when, 1)
    if reason.exc is not None:
        fields["error"] = describe_error(reason.exc)
    log.warning("retried", extra={"fields": fields})


def tell_revoked(sender: Any, request: Any, terminated: bool, expired: bool, **_: Any) -> None:
    """Log that a job will not run, or was stopped: for Celery's signal `task_revoked`."""
    why = "expired" if expired else "terminated" if terminated else "cancelled"
    log.warning("discarded", extra={"fields": _job(sender, request) | {"why": why}})


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; see the module's text for what is let through."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
        }
        line |= _context(record)
        fields = getattr(record, "fields", None)
        if _is_ours(record) and isinstance(fields, Mapping):
            line |= fields
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe_error(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == OURS or record.name.startswith(OURS + ".")


def _event(record: logging.LogRecord) -> str:
    if _is_ours(record) and not record.args:
        return str(record.msg)
    if record.name == "celery.app.trace" and isinstance(record.args, Mapping):
        return _end(record.args)
    if record.name.startswith(("celery.", "celeriac")) or record.name == "celeriac":
        return _without_errors(record)
    return str(record.msg)


def _end(told: Mapping[str, object]) -> str:
    """How an attempt ended. The text itself holds the return value, or the exception's text."""
    if "return_value" in told:
        return "task succeeded"
    what = str(told.get("description") or "retried")
    return f"task {'failed' if what.startswith('raised') else what.lower()}"


def _without_errors(record: logging.LogRecord) -> str:
    """The worker's own words; exceptions among the arguments shrink to their class."""

    def safe(value: object) -> object:
        return type(value).__name__ if isinstance(value, BaseException) else value

    args: Any = record.args
    if isinstance(args, Mapping):
        args = {key: safe(value) for key, value in args.items()}
    elif isinstance(args, tuple):
        args = tuple(safe(value) for value in args)
    try:
        return str(record.msg) % args if args else str(record.msg)
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


def _context(record: logging.LogRecord) -> dict[str, object]:
    context = job_context()
    if not context and record.name == "celery.app.trace" and isinstance(record.args, Mapping):
        context = {"job": record.args.get("id"), "task": record.args.get("name")}
    return {key: value for key, value in context.items() if value is not None}


def describe_error(error: BaseException) -> dict[str, object]:
    """Class and innermost frames; the text only of errors whose text we write ourselves."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    described: dict[str, object] = {
        "class": type(error).__name__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, MessagingError):
        described["text"] = str(error)
    return described


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every record of the process through the JSON formatter, to standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level, force=True)
