"""A real Prometheus scrapes a real operator, and every alert of the chart fires once its cause is there.

A minute lasts a second here: the expressions are the chart's own, with shorter times.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from celeriac.broker.message import DeadLetter, Settlement
from celeriac.broker.queue import Queue
from celeriac_operator import kinds
from tests.api.conftest import Broker
from tests.api.kube import Kube
from tests.api.operator_process import OperatorProcess, until
from tests.cluster.cluster import Cluster
from tests.cluster.prometheus import Prometheus

pytestmark = pytest.mark.usefixtures("kubelet")

RULES = Path(__file__).parents[2] / "charts/celeriac/files/alerts.yaml"
#: Ages that alerts compare with, in seconds.
_AGES = re.compile(r"(?<=mq_queue_oldest_age_seconds\) > )\d+")
_MINUTES = re.compile(r"\b(\d+)m\b")


def sped_up(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules with seconds for minutes."""
    for group in rules["groups"]:
        for rule in group["rules"]:
            expr = _AGES.sub(lambda it: str(int(it[0]) // 60), rule["expr"])
            rule["expr"] = _MINUTES.sub(r"\1s", expr)
            if "for" in rule:
                rule["for"] = _MINUTES.sub(r"\1s", rule["for"])
    return rules


@pytest.fixture
def prometheus(api: Cluster, tmp_path: Path, operator: OperatorProcess) -> Iterator[Prometheus]:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(sped_up(yaml.safe_load(RULES.read_text()))))
    targets = [f"127.0.0.1:{operator.port}"]
    with Prometheus(api, tmp_path, targets=targets, rules=rules) as running:
        yield running


def test_every_alert_fires_when_its_cause_is_there(
    kube: Kube, broker: Broker, operator: OperatorProcess, prometheus: Prometheus
) -> None:
    for name in ("calm", "waits", "dies", "lossy", "wrong-count"):
        kube.declare(name, autoscaling={"maxReplicas": 1})
    kube.declare("refused", worker={"podTemplate": {"spec": {"restartPolicy": "Sometimes"}}})
    kube.secret("nowhere", url="celeriac://127.0.0.1:1/0")
    kube.declare("unreachable", broker={"secretRef": {"name": "nowhere"}})
    # Counters grow for Prometheus only once it has seen them.
    ours = f'{{namespace="{kube.namespace}",queue="{kube.on_broker("lossy")}"}}'
    until(lambda: prometheus.result(f"mq_job_redeliveries_total{ours}"))
    until(lambda: prometheus.result("mq_reconcile_errors_total"))
    until(lambda: prometheus.firing().keys() <= {"CeleriacBrokerDown"})

    broker.publish(kube.on_broker("waits"), 3)
    _make_dead_letters(kube, broker)
    _lose_workers(kube, broker)
    _miscount(kube, broker)
    blocked = [f"blocked-{number}" for number in range(3)]
    for name in blocked:
        _block(kube, name)
    expected = {
        "CeleriacQueueStuck": {"queue": kube.on_broker("waits")},
        "CeleriacQueueOld": {"queue": kube.on_broker("waits")},
        "CeleriacAtMaxReplicas": {"queue": kube.on_broker("waits")},
        "CeleriacQueueStalled": {"resource": "refused"},
        "CeleriacDeadLettersGrow": {"queue": kube.on_broker("dies")},
        "CeleriacWorkersLost": {"queue": kube.on_broker("lossy")},
        "CeleriacLedgerImbalance": {"queue": kube.on_broker("wrong-count")},
        "CeleriacBrokerDown": {"broker": "celeriac://127.0.0.1:1/0"},
        "CeleriacReconcileErrors": {"job": "celeriac"},
    }
    seen: dict[str, list[dict[str, str]]] = {}

    def all_have_fired() -> bool:
        for alert, labels in prometheus.firing().items():
            seen.setdefault(alert, []).extend(labels)
        return all(_one_has(seen.get(alert, []), labels) for alert, labels in expected.items())

    until(all_have_fired, seconds=60, every=0.5)
    for name in blocked:
        kube.patch(kinds.DEPLOYMENTS, name, {"metadata": {"finalizers": None}})
    operator.stop()
    until(lambda: "CeleriacNoLeader" in prometheus.firing(), seconds=20)
    assert {*seen, "CeleriacNoLeader"} == _alerts()
    calm = kube.on_broker("calm")
    assert not _one_has([it for found in seen.values() for it in found], {"queue": calm})


def test_a_minute_is_a_second_everywhere() -> None:
    left = json.dumps(sped_up(yaml.safe_load(RULES.read_text())))
    assert not re.search(r"\d+m\b", left)
    assert not re.search(r"_seconds\) > \d\d", left)
    assert "[15s]" in left and "_seconds) > 5" in left


def _alerts() -> set[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def _one_has(found: list[dict[str, str]], labels: dict[str, str]) -> bool:
    return any(labels.items() <= it.items() for it in found)


def _make_dead_letters(kube: Kube, broker: Broker) -> None:
    broker.publish(kube.on_broker("dies"), 2)
    with broker.client() as client:
        queue = Queue(client, kube.on_broker("dies"))
        claimed = queue.claim("somebody", count=2).messages
        queue.settle([Settlement(it, DeadLetter(reason="made so by a test")) for it in claimed])


def _lose_workers(kube: Kube, broker: Broker) -> None:
    """Let somebody who holds five messages say nothing for longer than a lease."""
    broker.publish(kube.on_broker("lossy"), 5)
    with broker.client() as client:
        queue = Queue(client, kube.on_broker("lossy"))
        assert len(queue.claim("somebody", count=5).messages) == 5
        time.sleep(0.1)
        assert queue.reclaim(lease_ms=50) == 5


def _miscount(kube: Kube, broker: Broker) -> None:
    with broker.client() as client:
        queue = Queue(client, kube.on_broker("wrong-count"))
        client.hincrby(f"{queue.keys.base}counters", "accepted", 1)


def _block(kube: Kube, name: str) -> None:
    """Let a queue's Deployment never end: another one cannot be made."""
    kube.declare(name)
    until(lambda: kube.get(kinds.DEPLOYMENTS, name))
    kube.patch(kinds.DEPLOYMENTS, name, {"metadata": {"finalizers": ["tests.celeriac.dev/held"]}})
    kube.delete(kinds.DEPLOYMENTS, name)
