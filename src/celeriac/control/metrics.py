"""The metrics of every queue, for Prometheus, from what the broker's scripts counted.

One scrape is one pipelined read of all queues, kept for a second, so that many scrapers cost no
more than one. Counts are the broker's own: exact under ``kill -9``, and no label names a pod or a
worker. The names are a contract, held by a golden test.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

import redis
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from celeriac.broker.bulk_stats import BulkStats, queue_names
from celeriac.broker.message import Histogram, QueueStats
from celeriac.control.observe import heard
from celeriac.spec.errors import CeleriacError
from celeriac.spec.status import MessageQueueStatus

CACHE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Scaling:
    """What the control loop says of a queue: workers now, wanted, and wanted before limits."""

    current: int
    desired: int
    raw: int
    conditions: Mapping[str, str]
    """Status (True, False, Unknown) by condition type."""

    @classmethod
    def of(cls, status: MessageQueueStatus) -> Scaling:
        """What a status says of it; all numbers are 0 where nothing was decided yet."""
        return cls(
            current=status.replicas,
            desired=status.desired_replicas,
            raw=status.scaling.needed,
            conditions={it.type: it.status for it in status.conditions},
        )


class QueueCollector(Collector):
    """Collects the metrics of all queues of a broker.

    ``read`` measures all queues and raises redis-py's errors; ``scaling`` answers from memory.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[QueueStats]],
        *,
        scaling: Callable[[], Mapping[str, Scaling]] = dict,
        version: str = "0",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._scaling = scaling
        self._version = version
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._stats: Sequence[QueueStats] = ()
        self._up = False

    def describe(self) -> Iterable[Metric]:
        """Nothing is read at registration: the broker may not be up yet."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield every family; without the broker, only ``mq_broker_up`` 0 and what needs none."""
        stats, up = self._measured()
        yield GaugeMetricFamily("mq_broker_up", "1 when the broker answered.", value=float(up))
        build = InfoMetricFamily("mq_build", "What runs.", value={"version": self._version})
        yield build
        yield from scaling_families(self._scaling())
        if up:
            yield from gauge_families(stats)
            yield from counter_families(stats)
            yield from histogram_families(stats)

    def stats(self) -> Sequence[QueueStats]:
        """All queues as measured a second ago at most; none while the broker does not answer."""
        return self._measured()[0]

    def _measured(self) -> tuple[Sequence[QueueStats], bool]:
        with self._lock:
            if self._monotonic() >= self._until:
                try:
                    self._stats, self._up = self._read(), True
                except redis.exceptions.RedisError:
                    self._stats, self._up = (), False
                self._until = self._monotonic() + CACHE_SECONDS
            return self._stats, self._up


def read_all(client: redis.Redis, prefix: str) -> Callable[[], list[QueueStats]]:
    """Make a function that measures every queue of a broker, but for those that cannot be read now.

    For one thread at a time. Raises RedisError when there is nothing to be had of the broker.
    """
    many = BulkStats(client, prefix=prefix)

    def read() -> list[QueueStats]:
        found = many.measure(queue_names(client, prefix=prefix))
        return [one for one in found if isinstance(one, QueueStats)]

    return read


def gauge_families(stats: Sequence[QueueStats]) -> Iterable[Metric]:
    """Yield what a queue is like now."""
    jobs = GaugeMetricFamily(
        "mq_queue_jobs",
        "Messages that are not finished, and dead letters.",
        labels=["queue", "state", "priority"],
    )
    age = _gauge("mq_queue_oldest_age_seconds", "Age of the oldest ready message.")
    due = _gauge(
        "mq_queue_due_jobs", "Delayed messages that are due, and that no worker asked for."
    )
    paused = _gauge("mq_queue_paused", "1 while the queue hands out no messages.")
    workers = _gauge("mq_queue_workers", "Workers that the broker has heard of.")
    imbalance = _gauge(
        "mq_ledger_imbalance", "Accepted messages minus those accounted for: always 0."
    )
    for one in stats:
        for priority, count in one.ready_by.items():
            jobs.add_metric([one.name, "ready", priority], count)
        # Of these the broker keeps no count by priority.
        for state in ("leased", "delayed", "dead"):
            jobs.add_metric([one.name, state, "any"], getattr(one, state))
        age.add_metric([one.name], one.oldest_ready_ms / 1000)
        due.add_metric([one.name], one.due)
        paused.add_metric([one.name], float(one.paused))
        workers.add_metric([one.name], len(heard(one)))
        imbalance.add_metric([one.name], one.imbalance)
    return jobs, age, due, paused, workers, imbalance


def counter_families(stats: Sequence[QueueStats]) -> Iterable[Metric]:
    """Yield what has happened to a queue's messages so far."""
    finished = CounterMetricFamily(
        "mq_jobs_finished", "Messages that came to an end, by outcome.", labels=["queue", "outcome"]
    )
    accepted = _counter("mq_jobs_accepted", "Messages accepted from producers.")
    redriven = _counter("mq_jobs_redriven", "Dead letters sent back to their queue.")
    retries = _counter("mq_job_retries", "Failed attempts that led to another one.")
    redeliveries = _counter("mq_job_redeliveries", "Deliveries lost with their worker.")
    for one in stats:
        for outcome, count in outcomes(one).items():
            finished.add_metric([one.name, outcome], count)
        accepted.add_metric([one.name], one.accepted)
        redriven.add_metric([one.name], one.redriven)
        retries.add_metric([one.name], one.retried)
        redeliveries.add_metric([one.name], one.redelivered)
    return finished, accepted, redriven, retries, redeliveries


def outcomes(stats: QueueStats) -> dict[str, int]:
    """Ways in which messages ended; a redriven dead letter ends once more."""
    expired, cancelled = (stats.discarded_by.get(reason, 0) for reason in ("expired", "cancelled"))
    return {
        "done": stats.done,
        "dead": stats.dead_total,
        "expired": expired,
        "cancelled": cancelled,
        "discarded": stats.discarded - expired - cancelled,
        "purged": stats.purged,
    }


def histogram_families(stats: Sequence[QueueStats]) -> Iterable[Metric]:
    """Yield how long messages waited and ran."""
    for name, text, attribute in (
        ("mq_job_wait_seconds", "From ready to handed out.", "wait"),
        ("mq_job_run_seconds", "Length of an attempt.", "run"),
    ):
        family = HistogramMetricFamily(name, text, labels=["queue"])
        for one in stats:
            histogram: Histogram = getattr(one, attribute)
            family.add_metric([one.name], buckets(histogram), histogram.sum_ms / 1000)
        yield family


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative buckets, in seconds, from the broker's separate ones, in milliseconds."""
    total = 0
    result = []
    for bound, count in zip([*histogram.bounds_ms, None], histogram.counts, strict=True):
        total += count
        result.append(("+Inf" if bound is None else f"{bound / 1000:g}", float(total)))
    return result


def scaling_families(scaling: Mapping[str, Scaling]) -> Iterable[Metric]:
    """Yield what the control loop decided, and the conditions it reports."""
    replicas = GaugeMetricFamily(
        "mq_autoscaler_replicas",
        "Workers: current, desired, and raw (wanted before limits).",
        labels=["queue", "kind"],
    )
    conditions = GaugeMetricFamily(
        "mq_queue_condition",
        "1 for the status a condition has.",
        labels=["queue", "type", "status"],
    )
    for queue, one in scaling.items():
        for kind in ("current", "desired", "raw"):
            replicas.add_metric([queue, kind], getattr(one, kind))
        for kind, status in one.conditions.items():
            conditions.add_metric([queue, kind, status], 1)
    return replicas, conditions


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["queue"])


def _counter(name: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=["queue"])


class PortInUse(CeleriacError, RuntimeError):
    """The port for metrics is taken; the text says what to do."""


class MetricsServer:
    """The HTTP server of one registry."""

    def __init__(self, server: WSGIServer, thread: threading.Thread, host: str) -> None:
        self._server, self._thread, self.host = server, thread, host

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """Where to scrape."""
        return f"http://{self.host}:{self.port}/metrics"

    def close(self) -> None:
        """End it, and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(port: int, registry: CollectorRegistry, *, host: str = "127.0.0.1") -> MetricsServer:
    """Serve a registry in a thread; port 0 takes a free one. Raise PortInUse when it is taken."""
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortInUse(
            f"port {port} on {host} is in use; choose another one, or 0 for any free one"
        ) from error
    return MetricsServer(server, thread, host)


def registry_of(collector: QueueCollector) -> CollectorRegistry:
    """A registry with the queues' metrics and nothing else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry
