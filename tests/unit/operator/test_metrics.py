"""Metrics of queues in several namespaces, in one exposition that Prometheus takes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from celeriac.broker.message import Histogram, QueueStats
from celeriac.gateway.metrics import Scaling
from celeriac_operator.metrics import Queues
from celeriac_operator.seen import Key


def stats(name: str, ready: int) -> QueueStats:
    times = Histogram(bounds_ms=(1000,), counts=(1, 2), sum_ms=5000)
    zero = dict.fromkeys(
        ("now_ms", "discarded", "purged", "retried", "redelivered", "redriven", "dead"), 0
    )
    return QueueStats(
        **zero,
        name=name,
        accepted=ready,
        done=0,
        dead_total=0,
        discarded_by={},
        ready_by={"normal": ready},
        leased=0,
        delayed=0,
        due=0,
        oldest_ready_ms=0,
        declared=True,
        paused=False,
        version=1,
        workers=[],
        wait=times,
        run=times,
    )


def test_queues_of_one_name_in_two_namespaces_stay_apart() -> None:
    measured: dict[Key, QueueStats] = {
        ("a", "mail"): stats("mail", 1),
        ("b", "x"): stats("mail", 2),
    }
    scaling = {("b", "x"): Scaling(current=1, desired=2, raw=3, conditions={"Ready": "True"})}
    registry = CollectorRegistry()
    registry.register(
        Queues(stats=lambda: measured, scaling=lambda: scaling, brokers=lambda: {"redis": True})
    )
    text = generate_latest(registry).decode()
    samples = {
        (sample.name, sample.labels.get("namespace"), sample.labels.get("queue")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in ("mq_jobs_accepted_total", "mq_job_run_seconds_count", "mq_broker_up")
    }
    assert samples == {
        ("mq_jobs_accepted_total", "a", "mail"): 1,
        ("mq_jobs_accepted_total", "b", "mail"): 2,
        ("mq_job_run_seconds_count", "a", "mail"): 3,
        ("mq_job_run_seconds_count", "b", "mail"): 3,
        ("mq_broker_up", None, None): 1,
    }
    assert text.count("# TYPE mq_jobs_accepted_total counter") == 1
    assert 'mq_autoscaler_replicas{kind="raw",namespace="b",queue="mail"} 3.0' in text
    assert 'mq_queue_condition{namespace="b",queue="mail",status="True",type="Ready"} 1.0' in text
