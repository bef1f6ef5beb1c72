"""A declared queue of one's own, on the session's server."""

from __future__ import annotations

import pytest
import redis

from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy


@pytest.fixture
def queue(redis_client: redis.Redis, queue_name: str) -> Queue:
    queue = Queue(redis_client, queue_name)
    queue.declare(QueuePolicy())
    return queue
