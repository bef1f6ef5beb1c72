"""Which job goes where: the one table of queues, tasks and priorities.

How often a job is tried is the queue's policy (``queues.yaml``). Only "anything critical gets five
attempts" depends on the job, so such a message carries its own `max_attempts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from celeriac_messaging.payloads import (
    BatchSend,
    Cleanup,
    DeliveryConfirmation,
    Encryption,
    Indexing,
    Notification,
    Payload,
    SendMessage,
    Urgency,
)

Priority = Literal["high", "normal", "low"]
CRITICAL_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Route:
    """The queue that takes a payload, and the task that handles it there."""

    queue: str
    task: str


ROUTES: Mapping[type[Payload], Route] = {
    SendMessage: Route("message-delivery", "messaging.send_message"),
    DeliveryConfirmation: Route("message-delivery", "messaging.confirm_delivery"),
    Notification: Route("message-notification", "messaging.notify"),
    Encryption: Route("message-encryption", "messaging.encrypt"),
    Indexing: Route("message-indexing", "messaging.index"),
    BatchSend: Route("batch-message-sending", "messaging.send_batch"),
    Cleanup: Route("message-cleanup", "messaging.cleanup"),
}

PRIORITIES: Mapping[Urgency, Priority] = {
    "critical": "high",
    "realtime": "high",
    "normal": "normal",
    "bulk": "low",
}

QUEUES: tuple[str, ...] = tuple(dict.fromkeys(route.queue for route in ROUTES.values()))


def max_attempts(urgency: Urgency) -> int | None:
    """The number of attempts that the message asks for; None leaves it to the queue."""
    return CRITICAL_ATTEMPTS if urgency == "critical" else None
