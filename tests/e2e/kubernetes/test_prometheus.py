"""A real Prometheus scrapes the operators, and knows exactly what the broker knows."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest
import yaml

from celeriac import Job
from tests.cluster.cluster import Cluster
from tests.e2e.kubernetes.harness import ROOT, Platform
from tests.e2e.kubernetes.waiting import eventually

PORT = 19090
ALERTS = ROOT / "charts/celeriac/files/alerts.yaml"


class Prometheus:
    """Answers of a running Prometheus."""

    def get(self, path: str, **query: str) -> list[dict[str, object]]:
        """Ask its API. Raises OSError."""
        url = f"http://127.0.0.1:{PORT}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found = json.load(answer)["data"]
        return list(found.get("result") or found.get("activeTargets") or found.get("groups") or [])

    def value(self, query: str) -> float:
        """The one number that a query has as its answer. Raises LookupError."""
        found = self.get("query", query=query)
        if len(found) != 1:
            raise LookupError(f"{query}: {found}")
        value = found[0]["value"]
        assert isinstance(value, list)
        return float(value[1])


@pytest.fixture
def prometheus(platform: Platform, own_cluster: Cluster) -> Iterator[Prometheus]:
    """A Prometheus that scrapes every operator."""
    # Debian's cannot discover pods by itself, so it is told where they are.
    targets = [f"{it['status']['podIP']}:8080" for it in platform.operators()]
    scrape = {"job_name": "celeriac", "static_configs": [{"targets": targets}]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [scrape],
        "rule_files": [str(ALERTS)],
    }
    path = platform.folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    command = ["prometheus", f"--config.file={path}", f"--web.listen-address=127.0.0.1:{PORT}"]
    command += [f"--storage.tsdb.path={platform.folder}/prometheus", "--log.level=warn"]
    own_cluster.processes.start("prometheus", command)
    yield Prometheus()
    own_cluster.processes.stop("prometheus")


def test_prometheus_scrapes_the_operator_and_its_numbers_are_the_brokers(
    platform: Platform, prometheus: Prometheus, name: str
) -> None:
    platform.declare(name, retry={"maxAttempts": 1}, autoscaling={"maxReplicas": 1})
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
    assert not [it for it in _rules(prometheus) if it["health"] != "ok"]


def _rules(prometheus: Prometheus) -> list[dict[str, object]]:
    found = []
    for group in prometheus.get("rules"):
        rules = group["rules"]
        assert isinstance(rules, list)
        found += rules
    assert found
    return found
