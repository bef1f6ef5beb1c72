"""The metrics are a contract: families, labels and values, from statistics to the text served."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from celeriac.broker.message import Histogram, QueueStats, WorkerSeen
from celeriac.control.metrics import (
    PortInUse,
    QueueCollector,
    Scaling,
    buckets,
    registry_of,
    serve,
)

MAIL = QueueStats(
    name="mail",
    now_ms=1_764_000_000_000,
    accepted=100,
    done=90,
    discarded=4,
    purged=1,
    retried=12,
    redelivered=2,
    redriven=1,
    dead=2,
    dead_total=3,
    discarded_by={"expired": 1, "cancelled": 2, "revoked": 1},
    ready_by={"high": 0, "normal": 1, "low": 0, "isolated": 0},
    leased=1,
    delayed=2,
    due=1,
    oldest_ready_ms=4_250,
    declared=True,
    paused=True,
    version=1,
    workers=[WorkerSeen("w/0", 1_764_000_000_000, 1), WorkerSeen("w/1", 1_764_000_000_000, 0)],
    wait=Histogram((5, 100), (40, 30, 20), 9_000),
    run=Histogram((5, 1000), (80, 8, 4), 3_500),
)
SCALING = Scaling(current=1, desired=2, raw=7, conditions={"Ready": "True", "Stalled": "False"})


class Broker:
    """Answers with statistics, or does not answer."""

    def __init__(self, *stats: QueueStats) -> None:
        self.stats = stats
        self.reads = 0
        self.down = False

    def read(self) -> Sequence[QueueStats]:
        self.reads += 1
        if self.down:
            raise redis.exceptions.ConnectionError("refused")
        return self.stats


def scrape(collector: QueueCollector) -> dict[str, float]:
    text = generate_latest(registry_of(collector)).decode()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


def collector_of(broker: Broker) -> QueueCollector:
    return QueueCollector(broker.read, scaling=lambda: {"mail": SCALING}, version="1.2.3")


def test_families_and_labels_are_those_of_the_golden_file() -> None:
    families = {
        f"{family.name} {family.type} "
        + (",".join(sorted({key for s in family.samples for key in s.labels} - {"le"})) or "-")
        for family in collector_of(Broker(MAIL)).collect()
    }
    golden = Path(__file__).with_name("golden_metrics.txt").read_text().splitlines()
    assert sorted(families) == golden


def test_values() -> None:
    values = scrape(collector_of(Broker(MAIL)))
    expected = {
        'mq_queue_jobs{priority="normal",queue="mail",state="ready"}': 1,
        'mq_queue_jobs{priority="any",queue="mail",state="leased"}': 1,
        'mq_queue_jobs{priority="any",queue="mail",state="delayed"}': 2,
        'mq_queue_jobs{priority="any",queue="mail",state="dead"}': 2,
        'mq_queue_oldest_age_seconds{queue="mail"}': 4.25,
        'mq_queue_due_jobs{queue="mail"}': 1,
        'mq_queue_paused{queue="mail"}': 1,
        'mq_queue_workers{queue="mail"}': 1,
        'mq_ledger_imbalance{queue="mail"}': -1,
        'mq_jobs_accepted_total{queue="mail"}': 100,
        'mq_jobs_finished_total{outcome="done",queue="mail"}': 90,
        'mq_jobs_finished_total{outcome="dead",queue="mail"}': 3,
        'mq_jobs_finished_total{outcome="expired",queue="mail"}': 1,
        'mq_jobs_finished_total{outcome="cancelled",queue="mail"}': 2,
        'mq_jobs_finished_total{outcome="discarded",queue="mail"}': 1,
        'mq_jobs_finished_total{outcome="purged",queue="mail"}': 1,
        'mq_jobs_redriven_total{queue="mail"}': 1,
        'mq_job_retries_total{queue="mail"}': 12,
        'mq_job_redeliveries_total{queue="mail"}': 2,
        'mq_job_wait_seconds_bucket{le="0.005",queue="mail"}': 40,
        'mq_job_wait_seconds_bucket{le="0.1",queue="mail"}': 70,
        'mq_job_wait_seconds_bucket{le="+Inf",queue="mail"}': 90,
        'mq_job_wait_seconds_count{queue="mail"}': 90,
        'mq_job_wait_seconds_sum{queue="mail"}': 9,
        'mq_job_run_seconds_bucket{le="1",queue="mail"}': 88,
        'mq_autoscaler_replicas{kind="current",queue="mail"}': 1,
        'mq_autoscaler_replicas{kind="desired",queue="mail"}': 2,
        'mq_autoscaler_replicas{kind="raw",queue="mail"}': 7,
        'mq_queue_condition{queue="mail",status="False",type="Stalled"}': 1,
        'mq_build_info{version="1.2.3"}': 1,
        "mq_broker_up": 1,
    }
    assert {name: values.get(name) for name in expected} == expected


def test_no_family_carries_the_name_of_a_worker() -> None:
    assert not [name for name in scrape(collector_of(Broker(MAIL))) if "w/" in name]


def test_many_scrapes_are_one_read_a_second() -> None:
    now = 100.0
    broker = Broker(MAIL)
    collector = QueueCollector(broker.read, monotonic=lambda: now)
    for _ in range(5):
        scrape(collector)
    assert broker.reads == 1
    now = 101.0
    scrape(collector)
    assert broker.reads == 2


def test_a_broker_that_is_down_is_said_and_stale_counts_are_not() -> None:
    now = 100.0
    broker = Broker(MAIL)
    collector = QueueCollector(
        broker.read, scaling=lambda: {"mail": SCALING}, monotonic=lambda: now
    )
    assert scrape(collector)["mq_broker_up"] == 1
    broker.down, now = True, 102.0
    values = scrape(collector)
    assert values["mq_broker_up"] == 0
    assert not [name for name in values if name.startswith("mq_jobs_")]
    assert 'mq_autoscaler_replicas{kind="desired",queue="mail"}' in values
    broker.down, now = False, 104.0
    assert scrape(collector)["mq_broker_up"] == 1


def test_buckets_are_cumulative() -> None:
    assert buckets(Histogram((5, 100), (1, 2, 3), 0)) == [("0.005", 1), ("0.1", 3), ("+Inf", 6)]


def test_served_on_loopback_in_the_text_format() -> None:
    server = serve(0, registry_of(collector_of(Broker(MAIL))))
    try:
        assert server.url == f"http://127.0.0.1:{server.port}/metrics"
        with urllib.request.urlopen(server.url, timeout=5) as answer:
            families = {f.name for f in text_string_to_metric_families(answer.read().decode())}
    finally:
        server.close()
    assert "mq_queue_jobs" in families
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(server.url, timeout=5)


def test_a_port_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} .* in use; choose another"):
            serve(port, registry_of(collector_of(Broker())))
