"""Sends one real job and waits until it is done: what `helm test` runs."""

from __future__ import annotations

import sys
import time
import uuid

from celeriac import Client
from celeriac_messaging.payloads import Indexing
from celeriac_messaging.routing import ROUTES
from celeriac_messaging.service import MessageQueueService

TIMEOUT_S = 180.0
_POLL_S = 0.2


def main() -> int:
    """Send an indexing job; 0 when it is done, 1 when it is not in time."""
    client = Client()
    queue = ROUTES[Indexing].queue
    before = client.stats(queue).done
    receipt = MessageQueueService(client).index(
        Indexing(tenant="smoke", message_id=f"smoke-{uuid.uuid4().hex[:12]}", text="a test message")
    )
    _say(f"{receipt.status}: {receipt.id}")
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if client.stats(queue).done > before:
            _say("done")
            return 0
        time.sleep(_POLL_S)
    _say(f"not done within {TIMEOUT_S:.0f} s: {client.stats(queue)}")
    return 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
