"""The short way of a plain call: one message for one queue, with nothing around it.

Celery's `send_task` builds twenty headers, nearly all of them null, looks each setting up in a chain of
mappings and borrows a producer, which together takes longer than the broker's answer. A call that has no
callbacks, no place in a canvas, no signal receivers and no publishing options of its own becomes the same
message without all that. Any other goes Celery's way: `FastPath.send` leaves it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from os import getpid
from typing import Any

import redis
from celery import Celery, signals
from celery._state import get_current_worker_task
from celery.app.task import Task
from celery.utils.nodenames import gethostname
from celery.utils.time import maybe_make_aware
from kombu import Queue
from kombu.common import Broadcast
from kombu.serialization import registry
from kombu.utils.json import dumps as kombu_json

from celeriac.broker.message import NewMessage
from celeriac.client.envelope import encode, json_body
from celeriac.client.publisher import Publisher, priority_of

#: What a plain call may say for itself.
_OPTIONS = frozenset({"queue", "countdown", "priority", "ignore_result"})
#: What a task, or a route, may say for its calls; of anything else only None.
_OF_TASK = frozenset(
    {"queue", "routing_key", "priority", "time_limit", "soft_time_limit", "delivery_mode"}
)
_JSON = ("serializer", "json")
_NOT_ROUTED = frozenset({"time_limit", "soft_time_limit", "expires"})
#: Celery refuses countdowns that no date can hold; these it accepts, and so do we.
_LONGEST_COUNTDOWN_S = 1_000_000_000

_RECEIVERS = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)


@dataclass(frozen=True, slots=True)
class _Plain:
    """What a task says for all its calls."""

    routed: dict[str, Any]
    time_limit: float | None
    soft_time_limit: float | None


def origin() -> str:
    """What Celery calls the sender of a message: this process on this host."""
    return f"gen{getpid()}@{_host()}"


@lru_cache(maxsize=1)
def _host() -> str:
    host: str = gethostname()  # Celery asks the system each time
    return host


class FastPath:
    """Publishes the plain calls of one app's tasks. Threads may share it; it survives a fork."""

    def __init__(self, app: Celery, publisher: Publisher) -> None:
        self._app = app
        self._publisher = publisher
        self._retry = bool(app.conf.task_publish_retry)
        self._tasks: dict[Any, _Plain | None] = {}

    @classmethod
    def of(cls, app: Celery, publisher: Publisher) -> FastPath | None:
        """Make the sender of an app; None when its settings leave no call plain."""
        conf = app.conf
        json_is_kombus = registry._encoders["json"].encoder is kombu_json  # noqa: SLF001
        if not json_is_kombus or conf.task_serializer != "json":
            return None
        if conf.task_compression or conf.task_protocol != 2:
            return None
        return cls(app, publisher)

    def send(self, task: Any, args: Any, kwargs: Any, id: str, options: dict[str, Any]) -> Any:
        """Publish a call and return its result; None for one that has to go Celery's way.

        Raises what `Task.apply_async` raises.
        """
        plain = self._plain(task, options)
        if plain is None or not self._is_quiet():
            return None
        # Only tasks made of functions have one.
        check_arguments = getattr(task, "__header__", None) if task.typing else None
        if check_arguments is not None:
            check_arguments(*(args or ()), **(kwargs or {}))
        args, kwargs = args or (), kwargs or {}
        if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping):
            return None
        routed = {**plain.routed, **options}
        delay_s = routed.pop("countdown", None) or 0
        ignore_result = routed.pop("ignore_result", task.ignore_result)
        routed = self._app.amqp.router.route(routed, task.name, args, kwargs, task)
        queue, priority = _destination(routed), routed.get("priority")
        if queue is None or not 0 <= delay_s < _LONGEST_COUNTDOWN_S:
            return None
        try:
            body = json_body(args, kwargs)
        except (TypeError, ValueError):
            return None
        head = _head(
            origin(),
            self._app.thread_oid,
            ignore_result,
            priority,
            plain.time_limit,
            plain.soft_time_limit,
            self._eta(delay_s),
        )
        message = NewMessage(
            id=id,
            task=task.name,
            body=body,
            head=head,
            priority=priority_of(priority),
            delay_ms=round(delay_s * 1000),
        )
        return self._publish(task, queue, message, ignore_result)

    def _publish(self, task: Any, queue: str, message: NewMessage, ignore_result: Any) -> Any:
        pool = self._app.amqp.producer_pool
        if not ignore_result:
            with pool.acquire(block=True) as producer:
                self._app.backend.on_task_call(producer, message.id)
        try:
            self._publisher.must_publish(queue, message)
        except redis.RedisError:
            if self._retry:
                return None  # Celery's way waits and repeats, as its retry policy says
            with pool.connections.connection._reraise_as_library_errors():  # noqa: SLF001
                raise
        result = task.AsyncResult(message.id)
        result.ignored = ignore_result
        return result

    def _eta(self, delay_s: float) -> datetime | None:
        """When a call is due, for its task to read; the broker goes by its own clock."""
        if not delay_s:
            return None
        app = self._app
        eta: datetime = maybe_make_aware(app.now() + timedelta(seconds=delay_s), tz=app.timezone)
        return eta

    def _is_quiet(self) -> bool:
        """Whether nobody wants to hear of the call, and no running task is its parent."""
        for signal in _RECEIVERS:
            if signal.receivers:
                return False
        conf = self._app.conf
        return (
            get_current_worker_task() is None
            and not conf.task_always_eager
            and not conf.task_send_sent_event
        )

    def _plain(self, task: Any, options: dict[str, Any]) -> _Plain | None:
        if not options.keys() <= _OPTIONS:
            return None
        try:
            return self._tasks[task]
        except KeyError:
            plain = self._tasks[task] = _plain_of(task)
            return plain


def _plain_of(task: Any) -> _Plain | None:
    options: dict[str, Any] = task._get_exec_options()  # noqa: SLF001
    hard, soft = options["time_limit"], options["soft_time_limit"]
    if (
        not _says_little(options)
        or (soft and hard and soft > hard)
        or type(task).shadow_name is not Task.shadow_name
        or getattr(task, "_dump_pydantic_arguments", None) is not None
        or getattr(task, "__v2_compat__", False)
    ):
        return None
    routed = {name: value for name, value in options.items() if name not in _NOT_ROUTED}
    return _Plain(routed, hard, soft)


def _destination(routed: dict[str, Any]) -> str | None:
    queue = routed.get("queue")
    if not isinstance(queue, Queue) or isinstance(queue, Broadcast):
        return None
    if queue.exchange.type != "direct":
        return None
    name: str = queue.name
    return name if _says_little(routed) else None


def _says_little(options: dict[str, Any]) -> bool:
    """Whether a task's options, or a route's, ask for nothing that only Celery's way does."""
    for name, value in options.items():
        if value is not None and name not in _OF_TASK and (name, value) != _JSON:
            return False
    return True


def _head(*said: Any) -> bytes:
    """Write the head of a plain call; one that waits is like no other."""
    return _kept_head(*said) if said[-1] is None else _new_head(*said)


def _new_head(
    origin: str,
    reply_to: str,
    ignore_result: bool | None,
    priority: int | None,
    time_limit: float | None,
    soft_time_limit: float | None,
    eta: datetime | None,
) -> bytes:
    headers = {
        "eta": None if eta is None else eta.isoformat(),
        "timelimit": [time_limit, soft_time_limit],
        "origin": origin,
        "ignore_result": ignore_result,
    }
    return encode(headers, {"reply_to": reply_to, "priority": priority})


_kept_head = lru_cache(maxsize=1024, typed=True)(_new_head)
