"""Versioned payloads, validated when a job is enqueued and again in the worker."""

from __future__ import annotations

from celeriac_messaging.payloads.models import (
    BatchRecipient,
    BatchSend,
    Cleanup,
    DeliveryConfirmation,
    DeliveryState,
    EmailRecipient,
    EmailTarget,
    Encryption,
    Indexing,
    Notification,
    Payload,
    PushTarget,
    SendMessage,
    Urgency,
    WebhookRecipient,
)
from celeriac_messaging.payloads.versions import load

__all__ = [
    "BatchRecipient",
    "BatchSend",
    "Cleanup",
    "DeliveryConfirmation",
    "DeliveryState",
    "EmailRecipient",
    "EmailTarget",
    "Encryption",
    "Indexing",
    "Notification",
    "Payload",
    "PushTarget",
    "SendMessage",
    "Urgency",
    "WebhookRecipient",
    "load",
]
