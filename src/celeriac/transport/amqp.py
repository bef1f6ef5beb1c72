"""How a Celery app publishes tasks to us: Celery's own way, less what our queues do not need.

`registration.py` makes this the default `Celery.amqp_cls`. For an app whose broker URL is not ours, it is
Celery's class unchanged. For one of ours, Celery's `send_task` still does the routing, signals, retry policy
and canvas; only the producer it is handed is another. Task messages to a queue go straight to the broker,
without kombu's connection pool, entity declarations, base64 and second envelope; anything else (remote
control, events, broadcasts) takes a real kombu producer. Nor are `argsrepr` and `kwargsrepr` computed: the
body holds the arguments already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Self

from celery.app import amqp as celery_amqp
from celery.exceptions import ImproperlyConfigured
from kombu import pools
from kombu.common import Broadcast
from kombu.serialization import dumps
from kombu.utils.functional import retry_over_time
from redis.exceptions import ConnectionError, TimeoutError

from celeriac.broker.refusal import BrokerRefuses
from celeriac.client.envelope import task_message
from celeriac.client.publisher import Publisher, priority_of, publisher_for
from celeriac.transport.fast_path import FastPath, origin
from celeriac.transport.registration import SCHEMES


class AMQP(celery_amqp.AMQP):  # type: ignore[misc]
    """Celery's message factory, and the producers for brokers of ours."""

    _producer_pool: Any

    @property
    def _ours(self) -> bool:
        ours: bool | None = self.__dict__.get("_broker_is_ours")
        if ours is None:
            url = self.app.conf.broker_write_url
            ours = isinstance(url, str) and url.partition("://")[0] in SCHEMES
            self.__dict__["_broker_is_ours"] = ours
        return ours

    @cached_property
    def create_task_message(self) -> Callable[..., Any]:
        """The function that builds messages; on brokers of ours without a printed copy of arguments."""
        build: Callable[..., Any] = super().create_task_message
        if not self._ours:
            return build
        if self.app.conf.task_protocol != 2:
            raise ImproperlyConfigured("task_protocol must be 2, which is Celery's default")

        def create(*args: Any, **options: Any) -> Any:
            options.setdefault("argsrepr", "")
            options.setdefault("kwargsrepr", "")
            options.setdefault("origin", origin())
            return build(*args, **options)

        return create

    @cached_property
    def fast_path(self) -> FastPath | None:
        """The short way for plain calls; None when the broker is not ours, or the settings forbid it."""
        if not self._ours:
            return None
        return FastPath.of(self.app, self.producer_pool.publisher)

    @property
    def producer_pool(self) -> Any:
        """Celery's producer pool, or ours."""
        if self._producer_pool is None and self._ours:
            connection = self.app.connection_for_write()
            self._producer_pool = TaskProducerPool(
                pools.connections[connection],
                limit=self.app.pool.limit,
                publisher=publisher_for(connection.transport.broker),
                timezone=self.app.timezone,
                queues=lambda: self.queues,
            )
        return super().producer_pool

    publisher_pool = producer_pool


def declare_bindings(app: Any, name: str) -> None:
    """Bind a queue of the app's to its exchange on the broker, as Celery's own worker does at start.

    Asks nothing of the broker for a queue without an exchange of its own.
    """
    queue = app.amqp.queues.get(name)
    exchange = None if queue is None else queue.exchange
    if exchange is None or (exchange.type == "direct" and exchange.name in {"", name}):
        return
    with app.connection_for_write() as connection:
        queue(connection.default_channel).declare()


class TaskProducerPool(pools.ProducerPool):  # type: ignore[misc]
    """A pool whose producers take a kombu connection only when they need one."""

    def __init__(
        self,
        connections: Any,
        *args: Any,
        publisher: Publisher,
        timezone: Any,
        queues: Callable[[], Mapping[str, Any]] = dict,
        **options: Any,
    ) -> None:
        """``queues`` are those of the app, which may be bound to exchanges of their own."""
        self.publisher = publisher
        self.timezone = timezone
        self._queues = queues
        super().__init__(connections, *args, **options)

    def acquire(self, block: bool = False, timeout: float | None = None) -> TaskProducer:
        """Hand out a producer, for a `with` block."""
        return TaskProducer(self, block, timeout)

    def bound_to(self, exchange: Any) -> list[Any]:
        """The app's queues on an exchange: in Celery a worker declares them, but there may be none up."""
        name = getattr(exchange, "name", exchange)
        queues = [queue for queue in self._queues().values() if queue.exchange.name == name]
        # A broadcast's queue is each consumer's own.
        return [it.exchange if isinstance(it, Broadcast) else it for it in queues]

    def acquire_real(self, block: bool, timeout: float | None) -> Any:
        """Hand out one of kombu's producers."""
        return super().acquire(block=block, timeout=timeout)


class TaskProducer:
    """Publishes task messages directly, and behaves as a kombu producer in everything else."""

    __slots__ = ("_block", "_pool", "_real", "_timeout")

    def __init__(self, pool: TaskProducerPool, block: bool, timeout: float | None) -> None:
        self._pool = pool
        self._block = block
        self._timeout = timeout
        self._real: Any = None

    def real(self) -> Any:
        """The kombu producer behind this one, taken from the pool at first need."""
        if self._real is None:
            self._real = self._pool.acquire_real(self._block, self._timeout)
        return self._real

    @property
    def connection(self) -> Any:
        """The kombu connection; not connected yet when nothing needed it."""
        return self._pool.connections.connection if self._real is None else self._real.connection

    def publish(
        self,
        body: Any,
        routing_key: str | None = None,
        *,
        priority: int | None = None,
        serializer: str | None = None,
        headers: dict[str, Any] | None = None,
        compression: str | None = None,
        exchange: Any = None,
        retry: bool = False,
        **options: Any,
    ) -> Any:
        """Publish as kombu's producer does. Raises MessageRefused when the broker refuses a task."""
        batch = None if self._real is None else self._batch()
        direct = (
            headers is not None
            and exchange == ""
            and routing_key
            and "task" in headers
            and "id" in headers
            and (self._real is None or batch is not None)
            and not compression
            and options.get("content_type") is None
        )
        if direct:
            assert headers is not None
            assert routing_key is not None
            content_type, content_encoding, data = dumps(body, serializer)
            message = task_message(
                headers=headers,
                properties={**options, "priority": priority},
                body=data.encode() if isinstance(data, str) else data,
                content_type=content_type,
                content_encoding=content_encoding,
                priority=priority_of(priority),
                now=datetime.now(UTC),
                timezone=self._pool.timezone,
            )
            if batch is not None:
                return batch.add_task(routing_key, message)
            send = partial(self._pool.publisher.must_publish, routing_key, message)
            try:
                return send()
            except BrokerRefuses:
                if not retry:
                    raise
                # Nothing was written, so this message may go again, as often as the policy says.
                return retry_over_time(send, BrokerRefuses, **_times(options.get("retry_policy")))
            except (ConnectionError, TimeoutError):
                if not retry:
                    raise
                # From here on it is kombu's producer that waits and repeats, as the policy says.
        if exchange and headers and "task" in headers:
            options["declare"] = [*(options.get("declare") or ()), *self._pool.bound_to(exchange)]
        return self.real().publish(
            body,
            routing_key,
            # kombu cannot tell 0, the most urgent, from no priority at all; 1 is of the same class.
            priority=1 if priority == 0 else priority or 0,
            serializer=serializer,
            headers=headers,
            compression=compression,
            exchange=exchange,
            retry=retry,
            **options,
        )

    def _batch(self) -> Any:
        """The open batch of `with producer.batch()` in this thread, if any."""
        state = getattr(self._real._batch_local, "current", None)  # noqa: SLF001
        return None if state is None else state._get_session(self._real.channel)  # noqa: SLF001

    def revive(self, channel: Any) -> None:
        """Use another channel; the direct way reconnects by itself."""
        if self._real is not None:
            self._real.revive(channel)

    def release(self) -> None:
        """Give back what was taken from the pool."""
        real, self._real = self._real, None
        if real is not None:
            real.release()

    close = release

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real(), name)


def _times(policy: dict[str, Any] | None) -> dict[str, Any]:
    """How often and when to try again: a retry policy's, else what is Celery's default."""
    times = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
    return {**times, **{name: it for name, it in (policy or {}).items() if name in times}}
