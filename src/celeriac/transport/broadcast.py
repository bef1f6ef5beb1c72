"""What passes through the mailbox of Celery's remote control, and must not get lost when no worker listens.

Workers that listen do what they are told. But a queue that is scaled to zero has none, and a worker of
another queue would confirm what it cannot do: so a revocation is also written into the queues themselves.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from celeriac.broker.bulk_stats import queue_names
from celeriac.client.publisher import Publisher

logger = logging.getLogger(__name__)

_REVOKING = ("revoke", "terminate")
#: Questions: that nobody hears them is an answer too.
_ASKING = frozenset(
    {
        "active",
        "active_queues",
        "clock",
        "conf",
        "dump_active",
        "dump_conf",
        "dump_reserved",
        "dump_revoked",
        "dump_schedule",
        "dump_tasks",
        "hello",
        "memdump",
        "memsample",
        "objgraph",
        "ping",
        "query_task",
        "registered",
        "report",
        "reserved",
        "revoked",
        "scheduled",
        "stats",
    }
)


def command_of(content_type: str, body: bytes) -> tuple[str, Mapping[str, Any]]:
    """Read a control command's name and arguments; the name is empty when it cannot be read."""
    if content_type != "application/json":
        return "", {}
    try:
        command = json.loads(body)
        return str(command["method"]), dict(command.get("arguments") or {})
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", {}


def revoked_ids(method: str, arguments: Mapping[str, Any]) -> Sequence[str]:
    """Name the messages that a control command revokes."""
    if method not in _REVOKING:
        return ()
    ids = arguments.get("task_id") or ()
    return (ids,) if isinstance(ids, str) else tuple(str(it) for it in ids)


def cancel_everywhere(publisher: Publisher, ids: Sequence[str]) -> None:
    """Cancel messages in whatever queue of the prefix they are; nobody says in which.

    Raises RedisError when the broker does not answer.
    """
    for name in queue_names(publisher.client, prefix=publisher.prefix):
        queue = publisher.peek(name)
        for message_id in ids:
            try:
                queue.cancel(message_id)
            except redis.exceptions.NoPermissionError:
                logger.warning("%s: no permission to revoke %s in this queue", name, message_id)


def tell_unheard(method: str) -> None:
    """Say that a command which changes something reached no worker."""
    if method and method not in _ASKING and method not in _REVOKING:
        logger.warning("control command %r: no worker listens, so nobody has done it", method)
