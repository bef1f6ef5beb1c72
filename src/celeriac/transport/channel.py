"""kombu on top of our queues: what makes `broker_url = "celeriac://…"` work in any Celery app.

Task messages (those with the headers `task` and `id`) enter our queues. Everything else that Celery sends,
remote control with its replies, events, broadcasts, stays kombu's Redis code, with all its keys and channels
under `{prefix}:kombu:`. Task queues cannot be consumed here: Celeriac's worker claims from them directly.

An ACL user needs `~{prefix}:* &{prefix}:*`. Redis matches the patterns of PSUBSCRIBE literally, so whoever
listens to events (`celery events`) needs `&{prefix}:kombu:/0.celeryev/*` (0: the database) as well, and on
a cluster `&{prefix}:kombu:{{prefix}}:/0.celeryev/*` instead (`celeriac.broker.keys.kombu_prefix`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import redis
from kombu.exceptions import BatchPublishError
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps

from celeriac.broker.connection import connection_class, connection_pool
from celeriac.broker.keys import kombu_prefix
from celeriac.broker.message import NewMessage
from celeriac.client.publisher import (
    MessageRefused,
    NotReplicated,
    Publisher,
    check,
    publisher_for,
)
from celeriac.spec.errors import CeleriacError
from celeriac.transport.broadcast import (
    cancel_everywhere,
    command_of,
    revoked_ids,
    tell_unheard,
)
from celeriac.transport.messages import bytes_of, must_be_readable, new_message, unbound
from celeriac.transport.url import KEPT_TRANSPORT_OPTIONS, adopt

#: How kombu.common.Broadcast names each consumer's own queue.
_BROADCAST = "bcast."


class TaskQueueNotConsumable(CeleriacError, RuntimeError):
    """Somebody tried to read a task queue with kombu, most likely `celery worker`."""

    def __init__(self, queue: str) -> None:
        super().__init__(
            f"queue {queue!r} holds Celery tasks that only Celeriac's worker can read: "
            f"run `celeriac worker -A YOUR.APP -Q {queue}` in place of `celery worker`"
        )


class PublishBatch(kombu_redis.PublishBatch):  # type: ignore[misc]
    """kombu's batch, in which the tasks of each queue leave together."""

    def __init__(self, channel: Channel, max_size: int) -> None:
        self._tasks: dict[str, list[NewMessage]] = {}
        super().__init__(channel, max_size)

    def add_task(self, queue: str, message: NewMessage) -> None:
        """Keep a task message until the flush, or until there are enough."""
        if self.channel.publisher.taken(queue, message):
            return
        self._tasks.setdefault(queue, []).append(message)
        if sum(map(len, self._tasks.values())) >= self.max_size:
            self.flush()

    def flush(self) -> None:
        """Send what was kept. Raises BatchPublishError, after which nothing more can be sent."""
        super().flush()
        tasks, self._tasks = self._tasks, {}
        try:
            for queue, messages in tasks.items():
                for receipt in self.channel.publisher.publish_many(queue, messages):
                    check(queue, receipt)
        except (redis.RedisError, MessageRefused, NotReplicated) as error:
            self._failed = error
            raise BatchPublishError(f"the batch was not accepted as a whole: {error}") from error

    def discard(self) -> None:
        """Forget what was not sent yet."""
        self._tasks.clear()
        super().discard()


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """kombu's Redis channel, from which tasks turn off into our queues."""

    supports_batch_publish = True
    from_transport_options = tuple(
        name
        for name in kombu_redis.Channel.from_transport_options
        if name not in {"global_keyprefix", "fanout_prefix", *KEPT_TRANSPORT_OPTIONS}
    )

    keyprefix_fanout: str

    def __init__(self, connection: Transport, **options: Any) -> None:
        self.broker = connection.broker
        self.global_keyprefix = kombu_prefix(
            self.broker.prefix, cluster=self.broker.kind == "cluster"
        )
        self.publisher: Publisher = publisher_for(self.broker)
        super().__init__(connection, **options)

    # --- publishing -----------------------------------------------------------------------------

    def basic_publish(
        self, message: dict[str, Any], exchange: str, routing_key: str, **options: Any
    ) -> Any:
        """Publish a message. Raises MessageRefused when a queue does not accept a task."""
        headers = message["headers"]
        is_task = "task" in headers and "id" in headers
        if exchange and self.typeof(exchange).type == "fanout":
            return self._publish_to_all(message, exchange, routing_key, is_task=is_task, **options)
        if not is_task:
            must_be_readable(message, routing_key)
            return super().basic_publish(message, exchange, routing_key, **options)
        new = new_message(message)
        queues = sorted(self._bound(exchange, routing_key or ""))
        if not queues or any(queue.startswith(_BROADCAST) for queue in queues):
            # Celery does not declare a broadcast's exchange when it publishes, and without that it is
            # taken for a direct one, whose messages nobody would ever see.
            raise unbound(exchange, routing_key, new)
        self._publish_copies(queues, new, options.get("_publish_batch"))
        return None

    def _publish_to_all(
        self, message: dict[str, Any], exchange: str, key: str, *, is_task: bool, **options: Any
    ) -> None:
        """Publish to a fanout exchange: to those who listen, and a task to the queues bound to it."""
        bound: list[str] = []
        if is_task:
            new = new_message(message)
            bound = sorted(self._task_queues_of(exchange))
            self._publish_copies(bound, new, options.get("_publish_batch"))
            heard = self._tell(message, exchange, key)
            if not bound and not heard:
                raise unbound(exchange, key, new)
            return
        method = ""
        if exchange.endswith(".pidbox"):
            method, arguments = command_of(message["content-type"], bytes_of(message["body"]))
            if ids := revoked_ids(method, arguments):
                cancel_everywhere(self.publisher, ids)
        if not self._tell(message, exchange, key):
            tell_unheard(method)

    def _tell(self, message: dict[str, Any], exchange: str, routing_key: str) -> int:
        """Hand a message to all who listen to a fanout exchange now: how many these are."""
        self._inplace_augment_message(message, exchange, routing_key)
        heard: int = self._commands.publish(
            self._get_publish_topic(exchange, routing_key), dumps(message)
        )
        return heard

    def _bound(self, exchange: str, key: str) -> set[str]:
        """Name the queues that get a message with this key.

        kombu asks what it knows of the exchange, which is nothing in a process that has not declared it: a
        topic's messages would be lost there. But its bindings have patterns, and no other's have.
        """
        if not exchange:
            return {key} - {""}
        return {
            queue
            for bound_key, pattern, queue in self.get_table(exchange)
            if queue and (re.match(pattern, key) if pattern else bound_key == key)
        }

    def _task_queues_of(self, exchange: str) -> Iterator[str]:
        """Name the task queues bound to an exchange: not what single consumers have bound for themselves."""
        for _, _, queue in self.get_table(exchange):
            if (
                queue
                and not queue.startswith(_BROADCAST)
                and queue not in self.connection.transient
            ):
                yield queue

    def _publish_copies(self, queues: list[str], new: NewMessage, batch: Any) -> None:
        for queue in queues:
            if batch is None:
                self.publisher.must_publish(queue, new)
            else:
                batch.add_task(queue, new)

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """Start a batch, for kombu's `Producer.batch()`."""
        return PublishBatch(self, max_size)

    # --- consuming ------------------------------------------------------------------------------

    def basic_consume(self, queue: str, *args: Any, **options: Any) -> Any:
        """Consume from a mailbox, a reply queue or a broadcast. Raises TaskQueueNotConsumable."""
        self._must_be_ours_to_read(queue)
        return super().basic_consume(queue, *args, **options)

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:
        """Get one message. Raises TaskQueueNotConsumable."""
        self._must_be_ours_to_read(queue)
        return super().basic_get(queue, no_ack=no_ack, **options)

    def _must_be_ours_to_read(self, queue: str) -> None:
        known = queue in self.connection.transient or queue in self._fanout_queues
        if not known and not queue.endswith(".pidbox"):
            raise TaskQueueNotConsumable(queue)

    def _new_queue(self, queue: str, auto_delete: bool = False, **options: Any) -> None:
        super()._new_queue(queue, auto_delete=auto_delete, **options)
        # Task queues are durable; all that Celery itself listens to comes and goes.
        if auto_delete or options.get("exclusive") or queue in self._expires:
            self.connection.transient.add(queue)

    # --- looking at queues ----------------------------------------------------------------------

    def _size(self, queue: str) -> int:
        size: int = super()._size(queue)
        return size + (0 if self._is_kombus(queue) else self.publisher.peek(queue).stats().ready)

    def _purge(self, queue: str) -> int:
        size: int = super()._purge(queue)
        return size + (0 if self._is_kombus(queue) else self.publisher.peek(queue).purge())

    def _has_queue(self, queue: str, **options: Any) -> bool:
        keys = [
            self.global_keyprefix + self._q_for_pri(queue, step) for step in self.priority_steps
        ]
        if not self._is_kombus(queue):
            keys.append(self.publisher.peek(queue).keys.record)
        # Not through kombu's client: it forgets the prefix for EXISTS. One by one, as keys of a cluster.
        return any(self.publisher.client.exists(key) for key in keys)

    def _is_kombus(self, queue: str) -> bool:
        return queue in self.connection.transient or "{" in queue or "}" in queue

    # --- connections ----------------------------------------------------------------------------

    def _get_pool(self, asynchronous: bool = False) -> redis.ConnectionPool:
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=self.broker.db)
        if not asynchronous:
            return connection_pool(self.broker)
        channel = self

        class Connection(connection_class(self.broker)):  # type: ignore[misc]
            def disconnect(self, *args: Any, **options: Any) -> None:
                super().disconnect(*args, **options)
                if channel._registered:
                    channel._on_connection_disconnect(self)

        return connection_pool(self.broker, connection_class=Connection)

    @cached_property
    def _commands(self) -> redis.Redis:
        client: redis.Redis = self._create_client()
        return client

    @contextmanager
    def conn_or_acquire(self, client: redis.Redis | None = None) -> Iterator[redis.Redis]:
        """Lend a client; one for the channel, where kombu makes one for each operation."""
        yield client or self._commands

    def _disconnect_pools(self) -> None:
        self.__dict__.pop("_commands", None)
        pools = [pool for pool in (self._pool, self._async_pool) if pool is not None]
        super()._disconnect_pools()
        for pool in pools:
            manager = getattr(pool, "sentinel_manager", None)
            for sentinel in manager.sentinels if manager is not None else ():
                sentinel.connection_pool.disconnect()

    # --- fan-out --------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        topics = [
            topic
            for queue in self.active_fanout_queues
            for topic in self._get_subscribe_topics(queue)
        ]
        if not topics:
            return
        subscriber = self.subclient
        if subscriber.connection._sock is None:
            subscriber.connection.connect()
        self._in_listen = subscriber.connection
        # kombu subscribes to patterns only, which the ACL pattern of our channels does not cover.
        plain, patterns = _split(topics)
        if plain:
            subscriber.subscribe(*plain)
        if patterns:
            subscriber.psubscribe(*patterns)

    def _unsubscribe_from(self, queue: str) -> None:
        subscriber = self.subclient
        if subscriber.connection and subscriber.connection._sock:
            plain, patterns = _split(self._get_subscribe_topics(queue))
            if plain:
                subscriber.unsubscribe(*plain)
            if patterns:
                subscriber.punsubscribe(*patterns)


def _split(topics: list[str]) -> tuple[list[str], list[str]]:
    patterns = [topic for topic in topics if any(sign in topic for sign in "*?[\\")]
    return [topic for topic in topics if topic not in patterns], patterns


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """kombu's Redis transport for `celeriac://`, `celeriacs://`, `celeriac+sentinel://`, `celeriac+cluster://`."""

    Channel = Channel
    driver_name = "celeriac"
    can_parse_url = True
    supports_batch_publish = True

    def __init__(self, client: Any, **options: Any) -> None:
        self.broker = adopt(client)
        #: Queues that Celery reads itself: mailboxes, replies, broadcasts.
        self.transient: set[str] = set()
        super().__init__(client, **options)

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """Write the broker's URL for people; see kombu's Connection.as_uri."""
        return self.broker.text() if include_password else self.broker.redacted()
