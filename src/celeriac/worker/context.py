"""What all parts of one worker share: its app, its options, its name, and its way to the queue."""

from __future__ import annotations

import os
import socket
from functools import cached_property
from typing import Any, TypeVar

from celery import Celery

from celeriac.broker import signing
from celeriac.broker.connection import connect, from_environment, parse
from celeriac.broker.message import Message, Outcome
from celeriac.broker.queue import Queue
from celeriac.client.progress import QueueProgress
from celeriac.worker import notify
from celeriac.worker.consumer import LONGEST_WAIT_S, Consumer
from celeriac.worker.decoder import Decoder
from celeriac.worker.options import WorkerOptions
from celeriac.worker.rate_limits import RateLimits
from celeriac.worker.runner import AttemptRunner

R = TypeVar("R", bound=AttemptRunner)

#: A broker that is silent for so long counts as gone. With short leases it is half a lease, since a request
#: that hangs must leave time to renew; but longer than an idle worker's sleep, which is a request as well.
BROKER_TIMEOUT_S = 10.0
SHORTEST_TIMEOUT_S = LONGEST_WAIT_S + 0.75


class WorkerContext:
    """What is the same for all parts of a worker.

    Raises BrokerURLError for a bad broker URL.
    """

    def __init__(self, app: Celery, options: WorkerOptions) -> None:
        self.app = app
        self.options = options
        self.name = options.name or f"{options.queue}@{socket.gethostname()}:{os.getpid()}"
        self.url = parse(options.broker or from_environment())
        self._signing = signing.from_environment()
        self._rates: RateLimits | None = None
        self.queue = self._connect()
        #: Who started this worker, and does not want it to live on alone; 0 when nobody said so.
        self.parent = int(os.environ.get("CELERIAC_PARENT_PID", "0"))

    def _connect(self) -> Queue:
        timeout_s = min(BROKER_TIMEOUT_S, max(SHORTEST_TIMEOUT_S, self.options.lease_s / 2))
        return Queue(
            connect(self.url, socket_timeout=timeout_s),
            self.options.queue,
            prefix=self.url.prefix,
            lease_ms=self.options.lease_s * 1000,
            signing=self._signing,
        )

    def consumer(self, *, slots: int) -> Consumer:
        """Make the consumer of this process."""
        return Consumer(self.queue, self.name, slots=slots, on_dropped=self._dropped)

    def child_consumer(self, name: str) -> Consumer:
        """Make the consumer of a child process, with a connection of its own."""
        return Consumer(self._connect(), name, slots=1, on_dropped=self._dropped)

    @cached_property
    def decoder(self) -> Decoder:
        """What decodes messages; to be used when the app is set up."""
        return Decoder(self.app, queue=self.queue, hostname=self.name)

    def runner(self, kind: type[R], consumer: Consumer, **options: Any) -> R:
        """Make what runs attempts at a consumer's messages."""
        queue = consumer.queue
        return kind(
            app=self.app,
            queue=queue,
            worker=consumer.name,
            decoder=self.decoder,
            policy=consumer.policy,
            rates=self._rates,
            **{"progress_sink": lambda message: QueueProgress(queue, message.id), **options},
        )

    def share(self) -> None:
        """Make what a parent and its children share; before the first is forked, and with the app set up."""
        self._rates = RateLimits(self.app)

    def limits(self) -> tuple[float, float]:
        """Soft and hard limit for tasks without: the queue's, else those of the app's configuration."""
        options, conf = self.options, self.app.conf
        if options.soft_timeout_s or options.timeout_s:
            return options.soft_timeout_s, options.timeout_s
        return conf.task_soft_time_limit or 0, conf.task_time_limit or 0

    def lost(self, message: Message, outcome: Outcome, error: Exception) -> None:
        """Tell Celery's side what became of a message whose process did not live to end it."""
        notify.lost(self.decoder, message, outcome, error)

    def _dropped(self, message: Message, reason: str) -> None:
        notify.dropped(self.decoder, message, reason)
