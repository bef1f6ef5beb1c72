"""What kombu hands the channel, as a message of ours, and why one is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from celeriac.broker.message import NewMessage, Receipt
from celeriac.client.envelope import task_message
from celeriac.client.publisher import MessageRefused, priority_of

#: What is in the body of every task of Celery's protocol 1, whatever its serializer, and of no result.
_PROTOCOL_1 = (b"taskset", b"task", b"kwargs", b"callbacks", b"chord")


def bytes_of(body: str | bytes) -> bytes:
    """The body of a kombu message, as it was given."""
    return body.encode() if isinstance(body, str) else bytes(body)


def unbound(exchange: str, routing_key: str, new: NewMessage) -> MessageRefused:
    """Say why a message that reaches no queue is refused, and what to do."""
    nobody = f"no task queue is bound to exchange {exchange!r} with key {routing_key!r}"
    if not exchange:
        nobody = "its route names no queue"
    reason = (
        f"{nobody}, and Celeriac's workers take no broadcasts: "
        "send with queue=…, or bind a queue in task_queues"
    )
    return MessageRefused(routing_key or exchange, Receipt(new.id, "refused", reason))


def must_be_readable(message: dict[str, Any], queue: str) -> None:
    """Refuse a task of Celery's first protocol: it would lie in a list that no worker of ours reads."""
    body = bytes_of(message["body"])
    if all(name in body for name in _PROTOCOL_1):
        reason = "it is a task of protocol 1, which no worker here reads: set task_protocol = 2"
        id_ = message["properties"].get("correlation_id") or ""
        raise MessageRefused(queue, Receipt(id_, "refused", reason))


def new_message(message: dict[str, Any]) -> NewMessage:
    """Make a queue's message of what kombu prepared. Raises ValueError for a bad time or priority."""
    body, properties = message["body"], message["properties"]
    return task_message(
        headers=message["headers"],
        properties=properties,
        body=bytes_of(body),
        content_type=message["content-type"],
        content_encoding=message["content-encoding"],
        # Here 0 stands for no priority: kombu's producer fills it in.
        priority=priority_of(properties.get("priority") or None),
        now=datetime.now(UTC),
    )
