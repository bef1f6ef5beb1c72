"""Where every message enters a queue, whoever sends it: our client, Celery's producer or kombu's channel.

The first message to a queue that nobody declared declares it with the default policy, so that publishing
never depends on the order in which things start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import redis

from celeriac.broker import capture
from celeriac.broker.connection import BrokerURL
from celeriac.broker.keys import DEFAULT_PREFIX
from celeriac.broker.message import NewMessage, Priority, Receipt
from celeriac.broker.queue import Queue
from celeriac.broker.replication import Replication
from celeriac.broker.signing import SigningKeys, from_environment
from celeriac.client.pinned import pinned_client
from celeriac.spec.errors import CeleriacError
from celeriac.spec.policies import QueuePolicy
from celeriac.spec.text import must_be_queue_name

_NAMES: dict[str, Priority] = {"high": "high", "normal": "normal", "low": "low"}


class MessageRefused(CeleriacError):
    """The broker did not accept a message: it is too large, or its queue is full."""

    def __init__(self, queue: str, receipt: Receipt) -> None:
        super().__init__(f"queue {queue!r} refused message {receipt.id}: {receipt.reason}")
        self.queue = queue
        self.receipt = receipt


class NotReplicated(CeleriacError):
    """The broker accepted a message, which fewer replicas have than the broker URL wants.

    It will be run, unless the primary is lost now. Sending it again doubles it, unless it has a dedup key.
    """

    def __init__(self, queue: str, receipt: Receipt) -> None:
        super().__init__(
            f"queue {queue!r} accepted message {receipt.id}, but only {receipt.replicas} of "
            f"{receipt.wanted} replicas are known to have it"
        )
        self.queue = queue
        self.receipt = receipt


class Publisher:
    """The queues of one broker, opened as they are published to. Threads may share it."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        prefix: str = DEFAULT_PREFIX,
        signing: SigningKeys | None = None,
        replication: Replication | None = None,
    ) -> None:
        """With ``signing``, every message is signed on its way; ``replication`` waits for replicas."""
        self.client = client
        self.prefix = prefix
        self.signing = signing
        self.replication = replication
        self._open: dict[str, Queue] = {}

    def queue(self, name: str) -> Queue:
        """Open a queue; the first time, make sure that it is declared. Raises ValueError for a bad name."""
        return self._open.get(name) or self._declared(name)

    def _declared(self, name: str) -> Queue:
        queue = self.peek(name)
        if not queue.has_record():
            must_be_queue_name(name)
            queue.declare(QueuePolicy(), only_if_absent=True)
        self._open[name] = queue
        return queue

    def peek(self, name: str) -> Queue:
        """Open a queue to read it, without declaring it. Raises ValueError for an impossible name."""
        if not name or "{" in name or "}" in name:
            raise ValueError(f"queue name {name!r}: must not be empty, nor contain '{{' or '}}'")
        return self._open.get(name) or Queue(
            self.client,
            name,
            prefix=self.prefix,
            signing=self.signing,
            replication=self.replication,
        )

    def publish(self, queue: str, message: NewMessage) -> Receipt:
        """Publish one message, unless the running attempt takes it (`celeriac.broker.capture`)."""
        if self.taken(queue, message):
            return Receipt(message.id, "accepted")
        return self.queue(queue).publish((message,))[0]

    def taken(self, queue: str, message: NewMessage) -> bool:
        """Offer a message to the attempt that runs here; when it takes it, it must not be published."""
        taker = capture.current.get()
        return taker is not None and taker.offer(queue, message)

    def publish_many(self, queue: str, messages: Sequence[NewMessage]) -> list[Receipt]:
        """Publish many messages, with a receipt for each."""
        return self.queue(queue).publish(messages)

    def ask_publish(
        self, queue: str, messages: Sequence[NewMessage]
    ) -> Callable[[], list[Receipt]]:
        """Send messages that travel together; call what is returned, once, for their receipts."""
        return self.queue(queue).ask_publish(messages)

    def must_publish(self, queue: str, message: NewMessage) -> None:
        """Publish one message; a duplicate is fine. Raises MessageRefused and NotReplicated."""
        check(queue, self.publish(queue, message))


def check(queue: str, receipt: Receipt) -> None:
    """Raise MessageRefused or NotReplicated if a receipt is not as good as its publisher wanted."""
    if receipt.status == "refused":
        raise MessageRefused(queue, receipt)
    if not receipt.replicated:
        raise NotReplicated(queue, receipt)


@lru_cache(maxsize=32)
def publisher_for(url: BrokerURL) -> Publisher:
    """The process's publisher for a broker: its pool of connections serves all threads, and a fork.

    Raises SigningKeysError when the environment names signing keys that cannot be used.
    """
    return Publisher(
        pinned_client(url),
        prefix=url.prefix,
        signing=from_environment(),
        replication=url.replication,
    )


def priority_of(value: int | str | None) -> Priority:
    """Map a priority's name, or Celery's number (on Redis 0 is the most urgent), to one of ours.

    0 to 2 are high, 3 to 6 and None normal, 7 to 9 low. Raises ValueError.
    """
    if value is None:
        return "normal"
    if isinstance(value, str):
        name = _NAMES.get(value)
        if name is None:
            raise ValueError(f"priority {value!r}: must be high, normal or low, or a number 0 to 9")
        return name
    if type(value) is not int or not 0 <= value <= 9:
        raise ValueError(
            f"priority {value!r}: must be a whole number from 0, the most urgent, to 9"
        )
    return "high" if value < 3 else "normal" if value < 7 else "low"
