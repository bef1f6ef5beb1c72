"""A real Prometheus scrapes the operators, and knows exactly what the broker knows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from celeriac import Job
from tests.cluster.cluster import Cluster
from tests.cluster.prometheus import Prometheus
from tests.e2e.kubernetes.harness import ROOT, Platform
from tests.e2e.kubernetes.waiting import eventually

ALERTS = ROOT / "charts/celeriac/files/alerts.yaml"


@pytest.fixture
def prometheus(platform: Platform, own_cluster: Cluster) -> Iterator[Prometheus]:
    """A Prometheus that scrapes every operator."""
    targets = [f"{it['status']['podIP']}:8080" for it in platform.operators()]
    with Prometheus(own_cluster, platform.folder, targets=targets, rules=ALERTS) as running:
        yield running


def test_prometheus_scrapes_the_operator_and_its_numbers_are_the_brokers(
    platform: Platform, prometheus: Prometheus, name: str
) -> None:
    platform.declare(
        name,
        retry={"maxAttempts": 1},
        deadLetter={"unknownTaskSeconds": 0},
        autoscaling={"maxReplicas": 1},
    )
    platform.wait_ready(name)
    client = platform.client()
    good = [Job("e2e.work", args=(name, n)) for n in range(40)]
    bad = [Job("e2e.nobody", args=(n,)) for n in range(3)]
    later = [Job("e2e.work", args=(name, n), delay=3600) for n in range(5)]
    client.send_many(name, [*good, *bad, *later])
    queue = platform.queue(name)
    eventually(
        lambda: (it := queue.stats()).done == 40 and it.dead == 3 and not it.ready,
        seconds=60,
        what="40 done, 3 dead",
    )
    stats = queue.stats()
    label = f'namespace="{platform.namespace}",queue="{name}"'
    expected = {
        f"mq_jobs_accepted_total{{{label}}}": 48.0,
        f'mq_jobs_finished_total{{{label},outcome="done"}}': 40.0,
        f'mq_jobs_finished_total{{{label},outcome="dead"}}': 3.0,
        f'sum(mq_queue_jobs{{{label},state="ready"}})': 0.0,
        f'mq_queue_jobs{{{label},state="delayed"}}': 5.0,
        f'mq_queue_jobs{{{label},state="dead"}}': 3.0,
        f"mq_ledger_imbalance{{{label}}}": 0.0,
        f"mq_job_run_seconds_count{{{label}}}": float(sum(stats.run.counts)),
        f"mq_job_wait_seconds_count{{{label}}}": float(sum(stats.wait.counts)),
        'count(up{job="celeriac"} == 1)': 2.0,
        "sum(mq_leader)": 1.0,
        "min(mq_broker_up)": 1.0,
        f'mq_queue_condition{{{label},type="Ready",status="True"}}': 1.0,
    }
    assert (stats.accepted, stats.done, stats.dead, stats.delayed) == (48, 40, 3, 5)
    for query, number in expected.items():
        eventually(
            lambda query=query, number=number: prometheus.value(query) == number,  # type: ignore[misc]
            seconds=20,
            what=f"{query} = {number:g}",
        )
    rules = prometheus.rules()
    assert rules
    assert not [it for it in rules if it["health"] != "ok"]
