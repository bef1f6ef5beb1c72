"""Decodes a message: finds its task, reads head and body, and builds what Celery calls the request.

A message that cannot be decoded can never run. It raises Undeliverable, with the reason that its dead letter
will carry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.app.task import Context
from celery.exceptions import NotRegistered
from kombu.exceptions import ContentDisallowed
from kombu.serialization import loads, prepare_accept_content
from kombu.utils.json import loads as load_json

from celeriac.broker.message import Message
from celeriac.broker.queue import Queue
from celeriac.broker.signing import BadSignature
from celeriac.client import envelope
from celeriac.spec.errors import CeleriacError
from celeriac.worker import speedups  # noqa: F401 (and Context knows our attempt)
from celeriac.worker.unpacking import decompress

_JSON = "application/json"
_UTF_8 = "utf-8"
_decode = json.JSONDecoder().decode

#: What Celery itself packs beside the arguments.
_EMBED = frozenset({"callbacks", "errbacks", "chain", "chord"})
#: What Celery's request can do, as a header of the same name would take it away.
_METHODS = frozenset(
    name
    for name in dir(Context)
    if callable(getattr(Context, name)) or isinstance(getattr(Context, name), property)
)
#: More than any count or number of seconds that makes sense, and less than what C code can hold.
_MOST = 2**31

_NO_LIMITS = [None, None]

#: What Celery calls these priorities. A normal message is one without.
_NUMBERS = {"high": 0, "normal": None, "low": 9}


#: The reason of a message whose task this worker's app does not have.
UNKNOWN_TASK = "unknown_task"


class Undeliverable(CeleriacError):
    """A message that can never run: the dead letters get it, with ``reason``."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

    @property
    def forged(self) -> bool:
        """Whether nothing that the message says of itself can be believed."""
        return isinstance(self.__cause__, BadSignature)


@dataclass(slots=True)
class Call:
    """A decoded message: ``task`` is to be called with ``args`` and ``kwargs``."""

    task: Any
    request: dict[str, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    max_attempts: int | None
    """The message's own limit, in place of the queue's."""
    retries_before: int
    """Retries that the message had when it was published here: it may come from another queue."""

    def context(self) -> Context:
        """The request as Celery's objects see it, for use outside the tracer."""
        return Context(self.request, args=self.args, kwargs=self.kwargs, called_directly=False)


class Decoder:
    """Decodes the messages of one queue for one app. Threads may share it."""

    def __init__(self, app: Celery, *, queue: Queue, hostname: str) -> None:
        self._app = app
        self._queue_name = queue.name
        self._place = queue.keys.base
        self._signing = queue.signing
        self._hostname = hostname
        self._accept = prepare_accept_content(app.conf.accept_content)
        self._plain_json = _JSON in self._accept

    def decode(self, message: Message) -> Call:
        """Decode a message. Raises Undeliverable."""
        head = self._verified(message)
        task = self._app.tasks.get(message.task)
        if task is None:
            raise Undeliverable(
                UNKNOWN_TASK,
                f"the app {self._app.main!r} has no task named {message.task!r}; is its module imported?",
            ) from NotRegistered(message.task)
        try:
            headers, properties, content_type, encoding = envelope.decode(
                head, message.id, message.task
            )
            _check(headers)
            args, kwargs, embed = self._body(message.body, headers, content_type, encoding)
            return self._call(message, task, headers, properties, args, kwargs, embed)
        except ContentDisallowed as error:
            raise Undeliverable(
                "content_disallowed", f"{error}; see the app's accept_content"
            ) from error
        except Exception as error:
            raise Undeliverable(
                "undecodable", f"it cannot be read: {type(error).__name__}: {error}"
            ) from error

    def _verified(self, message: Message) -> bytes:
        """The message's head, once its signature is known to be good, where it must have one."""
        if self._signing is None:
            return message.head
        try:
            return self._signing.verify(
                self._place, message.id, message.task, message.head, message.body
            )
        except BadSignature as error:
            raise Undeliverable("bad_signature", str(error)) from error

    def _body(
        self, body: bytes, headers: dict[str, Any], content_type: str, encoding: str
    ) -> tuple[Any, Any, Any]:
        if headers.get("compression"):
            body = decompress(body, headers["compression"])
        if content_type == _JSON and encoding == _UTF_8 and self._plain_json:
            # kombu's loads looks at every object for types of its own: a tenth of the cost of a message.
            loaded = load_json(body) if b"__type__" in body else _decode(body.decode())
        elif content_type in self._accept:
            loaded = loads(body, content_type, encoding, accept=self._accept)
        else:
            # kombu lets plain data and text pass without being asked, through any codec of Python's.
            raise ContentDisallowed(f"Refusing to deserialize content of type {content_type}")
        args, kwargs, embed = loaded
        embed = embed or {}
        if not embed.keys() <= _EMBED:
            embed = {name: it for name, it in embed.items() if name in _EMBED}
        return tuple(args), dict(kwargs), embed

    def _call(
        self,
        message: Message,
        task: Any,
        headers: dict[str, Any],
        properties: dict[str, Any],
        args: Any,
        kwargs: Any,
        embed: Any,
    ) -> Call:
        before = headers.get("retries") or 0
        priority = properties.get("priority")
        request: dict[str, Any] = {
            **headers,
            **embed,
            "id": message.id,
            "task": message.task,
            "retries": before + message.attempt,
            "hostname": self._hostname,
            "is_eager": False,
            "properties": properties,
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id", message.id),
            "delivery_info": {
                "exchange": "",
                "routing_key": self._queue_name,
                "queue": self._queue_name,
                "priority": _NUMBERS[message.priority] if priority is None else priority,
                "redelivered": message.delivery > 1,
                "delivery": message.delivery,
            },
        }
        if message.expires_ms:
            request["expires"] = datetime.fromtimestamp(message.expires_ms / 1000, UTC).isoformat()
        return Call(task, request, args, kwargs, headers.get("max_attempts"), before)


def _check(headers: dict[str, Any]) -> None:
    """Look at the headers that this worker itself relies on. Raises ValueError."""
    if not _METHODS.isdisjoint(headers):
        raise ValueError(f"no header may be named {', '.join(_METHODS & headers.keys())}")
    limits = headers.get("timelimit")
    if limits is not None and limits != _NO_LIMITS:
        hard, soft = limits
        if not all(it is None or _is_number(it) for it in (hard, soft)):
            raise ValueError("a time limit must be a number of seconds")
    for name in ("max_attempts", "retries"):
        count = headers.get(name)
        if count is not None and not (isinstance(count, int) and 0 <= count < _MOST):
            raise ValueError(f"{name} must be a number, and not a negative one")


def _is_number(it: Any) -> bool:
    return isinstance(it, int | float) and 0 <= it < _MOST
