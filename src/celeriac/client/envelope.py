"""What Celery says around a task's body, packed into a message's `head` and out again.

A protocol-2 message carries some twenty headers, nearly all of them null. The head is a compact JSON object
of what differs from the default, and is empty when nothing does:

    h   Celery headers. Task name and id travel as fields of their own; delay and expiry are durations
        that the broker keeps; `argsrepr` and `kwargsrepr` are the payload again, so they are left out.
    p   message properties: `reply_to`, `priority` as a number, `correlation_id` when it is not the id
    ct  content type when it is not application/json
    ce  content encoding when it is not utf-8
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from celeriac.broker.message import NewMessage, Priority
from celeriac.broker.signing import unsigned
from celeriac.client.notation import notation

JSON = "application/json"
UTF_8 = "utf-8"

_ELSEWHERE = frozenset({"task", "id", "argsrepr", "kwargsrepr", "expires"})
#: Headers of ours that are an instruction to the publisher and end with it.
DEDUP_KEY = "celeriac_dedup_key"
DEDUP_SECONDS = "celeriac_dedup_seconds"
DEDUP_SECONDS_DEFAULT = 3600
_LEFT_OUT = _ELSEWHERE | {DEDUP_KEY, DEDUP_SECONDS}

#: What Celery says where nothing was said (`celery.app.amqp.AMQP.as_task_v2`): left out, and filled in again.
#: Only the very default: the first member of a group has the index 0, and a shadow may be an empty text.
#: `ignore_result` is not among them where it is null: that means that the task's own setting decides.
_DEFAULTS: dict[str, Any] = {
    "lang": "py",
    "shadow": None,
    "eta": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "parent_id": None,
    "ignore_result": False,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
_PROPERTIES = (
    *("reply_to", "priority"),
    *(
        "app_id",
        "cluster_id",
        "message_id",
        "timestamp",
        "type",
        "user_id",
    ),  # of AMQP, for tasks to read
)
_NO_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

Decoded = tuple[dict[str, Any], dict[str, Any], str, str]


def encode(
    headers: Mapping[str, Any],
    properties: Mapping[str, Any] | None = None,
    content_type: str | None = JSON,
    content_encoding: str | None = UTF_8,
) -> bytes:
    """Pack what `decode` cannot guess. Raises TypeError for a header that JSON cannot carry."""
    id_ = headers.get("id")
    h = {
        name: value
        for name, value in headers.items()
        if name not in _LEFT_OUT and not _is_default(name, value)
    }
    if h.get("root_id") == id_:
        h.pop("root_id", None)
    head: dict[str, Any] = {}
    if h:
        head["h"] = h
    if properties:
        p = {name: properties[name] for name in _PROPERTIES if properties.get(name)}
        correlation_id = properties.get("correlation_id")
        if correlation_id and correlation_id != id_:
            p["correlation_id"] = correlation_id
        if p:
            head["p"] = p
    if content_type and content_type != JSON:
        head["ct"] = content_type
    if content_encoding and content_encoding.lower() != UTF_8:
        head["ce"] = content_encoding
    return _dumps(head).encode() if head else b""


def decode(head: bytes, id: str, task: str) -> Decoded:
    """Unpack a head into headers, properties, content type and content encoding.

    Headers whose default is null stay absent: Celery's own request object fills them in. A signature
    is passed over. Raises ValueError for a head that is not what `encode` writes.
    """
    head = unsigned(head)
    headers = {
        "id": id,
        "task": task,
        "root_id": id,
        "lang": "py",
        "retries": 0,
        "timelimit": [None, None],
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamps": {},
    }
    if not head:
        return headers, {"correlation_id": id, "reply_to": ""}, JSON, UTF_8
    try:
        loaded = _loads(head)
        h, p = loaded.get("h", {}), loaded.get("p", {})
        content = loaded.get("ct", JSON), loaded.get("ce", UTF_8)
        headers.update(h)
        properties = {"correlation_id": id, "reply_to": "", **p}
    except Exception as error:  # types of kombu's, or of an app's own, raise what they like
        raise ValueError(f"the head of a message must be a JSON object: {error}") from error
    if not all(isinstance(it, str) for it in content):
        raise ValueError("content type and encoding must be texts")
    return headers, properties, *content


def _is_default(name: str, value: Any) -> bool:
    if name not in _DEFAULTS:
        return False
    default = _DEFAULTS[name]
    # False is no 0, and 0 no null, though Python finds some of them equal.
    return value is default or (type(value) is type(default) and value == default)


def json_body(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Write the body of a call that has neither callbacks nor a place in a canvas.

    Raises TypeError and ValueError for arguments that JSON, with kombu's own types, cannot carry.
    """
    body = (args, kwargs, _NO_EMBED)
    try:
        return _encode(body).encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can carry it, UTF-8 cannot
        return _encode_ascii(body).encode()


def task_message(
    *,
    headers: Mapping[str, Any],
    properties: Mapping[str, Any],
    body: bytes,
    content_type: str,
    content_encoding: str,
    priority: Priority,
    now: datetime,
    timezone: tzinfo = UTC,
) -> NewMessage:
    """Make a queue's message of a Celery one: its times become durations from `now` (an aware datetime).

    `timezone` is that of times that name none. Raises ValueError for a time that cannot be read.
    """
    eta, expires = headers.get("eta"), headers.get("expires")
    dedup_key = headers.get(DEDUP_KEY)
    seconds = headers.get(DEDUP_SECONDS) or DEDUP_SECONDS_DEFAULT
    return NewMessage(
        id=headers["id"],
        task=headers["task"],
        body=body,
        head=encode(headers, properties, content_type, content_encoding),
        priority=priority,
        delay_ms=max(0, _ms_until(eta, now, timezone)) if eta else 0,
        # 0 would be never: what has expired already is discarded by the first claim.
        ttl_ms=max(1, _ms_until(expires, now, timezone)) if expires else 0,
        dedup_key=str(dedup_key) if dedup_key else "",
        dedup_ttl_ms=max(1, round(float(seconds) * 1000)) if dedup_key else 0,
    )


def _ms_until(when: str | datetime, now: datetime, timezone: tzinfo) -> int:
    moment = datetime.fromisoformat(when) if isinstance(when, str) else when
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone)
    return round((moment - now).total_seconds() * 1000)


def _rich(value: Any) -> Any:
    return notation.default(value)


_encoder = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, check_circular=False, default=_rich
)
_dumps = _encoder.encode
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_rich).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":"), default=_rich).encode


def _loads(head: bytes) -> Any:
    return notation.loads(head) if b'"__type__"' in head else json.loads(head)
