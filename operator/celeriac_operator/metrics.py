"""The operator's own metrics, and those of the queues: exact counts, as the brokers' scripts made them.

Every sample of a queue carries its resource's namespace, since two namespaces may have queues of one name
on two brokers. A scrape reads nothing: all queues are measured once a second anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from celeriac.broker.message import QueueStats
from celeriac.control.metrics import (
    Scaling,
    counter_families,
    gauge_families,
    histogram_families,
    scaling_families,
)
from celeriac_operator.api import Api
from celeriac_operator.reconcile import NamedStatus
from celeriac_operator.seen import Key

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What the operator tells of its own work."""

    def __init__(self, api: Api, *, version: str) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "mq_reconcile_seconds",
            "Length of one look after one queue.",
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self._errors = Counter(
            "mq_reconcile_errors", "Looks after a queue that failed.", registry=self.registry
        )
        self.length = Gauge(
            "mq_workqueue_length", "Queues that wait for a look.", registry=self.registry
        )
        self.leader = Gauge(
            "mq_leader", "1 while this replica holds the Lease.", registry=self.registry
        )
        self.registry.register(_Requests(api))
        build = Gauge("mq_build_info", "What runs.", ["version"], registry=self.registry)
        build.labels(version).set(1)

    def looked(self, seconds: float, *, failed: bool) -> None:
        """Note one look after one queue."""
        self._seconds.observe(seconds)
        if failed:
            self._errors.inc()


class _Requests(Collector):
    """Requests to the API server."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "mq_api_requests",
            "Requests to the API server, without kopf's watches.",
            labels=["verb", "code"],
        )
        for (verb, code), count in dict(self._api.requests).items():
            family.add_metric([verb, code], count)
        yield family


class Queues(Collector):
    """The metrics of all queues.

    ``statuses`` has every resource, also one that is stalled before anything was measured; two that name one
    queue are statuses apart by the label ``resource``.
    """

    def __init__(
        self,
        *,
        stats: Callable[[], Mapping[Key, QueueStats]],
        statuses: Callable[[], Mapping[Key, NamedStatus]],
        brokers: Callable[[], Mapping[str, bool]],
    ) -> None:
        self._stats = stats
        self._statuses = statuses
        self._brokers = brokers

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("mq_broker_up", "1 when the broker answered.", labels=["broker"])
        for broker, answers in self._brokers().items():
            up.add_metric([broker], float(answers))
        yield up
        by_namespace: dict[str, list[QueueStats]] = {}
        for (namespace, _), one in self._stats().items():
            by_namespace.setdefault(namespace, []).append(one)
        merged: dict[str, Metric] = {}
        for namespace, some in by_namespace.items():
            for families in (gauge_families, counter_families, histogram_families):
                _merge(merged, families(some), namespace=namespace)
        for (namespace, name), it in self._statuses().items():
            families_of_one = scaling_families({it.queue_name: Scaling.of(it.status)})
            _merge(merged, families_of_one, namespace=namespace, resource=name)
        yield from merged.values()


def _merge(merged: dict[str, Metric], families: Iterable[Metric], **labels: str) -> None:
    """Add labels to every sample that the broker's own families know nothing of."""
    for family in families:
        target = merged.setdefault(
            family.name, Metric(family.name, family.documentation, family.type)
        )
        for sample in family.samples:
            target.samples.append(sample._replace(labels={**labels, **sample.labels}))
