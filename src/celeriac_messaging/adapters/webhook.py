"""Webhooks with Standard Webhooks signatures (https://www.standardwebhooks.com).

The id is the job's, the same on every attempt, so a receiver can drop what it has seen. With two
secrets every call carries two signatures, so that a receiver may change over at any time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence

from celeriac_messaging.adapters.http import GuardedPost
from celeriac_messaging.settings import needed


def webhook_id(effect: str) -> str:
    """The `webhook-id` of a job."""
    return f"msg_{effect}"


def signatures(secrets: Sequence[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one `v1,…` for each secret."""
    signed = f"{id}.{timestamp}.".encode() + body
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


class SignedWebhooks:
    """POSTs JSON documents, signed with every secret."""

    def __init__(
        self, post: GuardedPost, *, secrets: Sequence[bytes], now_ms: Callable[[], int]
    ) -> None:
        self._post = post
        self._secrets = tuple(secrets)
        self._now_ms = now_ms

    def post(self, *, effect: str, url: str, document: bytes) -> None:
        secrets = needed(self._secrets, "WEBHOOK_SECRETS", "webhooks are signed with it")
        timestamp = self._now_ms() // 1000
        id = webhook_id(effect)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "celeriac-messaging",
            "webhook-id": id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(secrets, id, timestamp, document),
        }
        self._post(url, body=document, headers=headers)
