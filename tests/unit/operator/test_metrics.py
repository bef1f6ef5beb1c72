"""Metrics of queues in several namespaces, in one exposition that Prometheus takes."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from celeriac.broker.message import Histogram, QueueStats
from celeriac.spec.conditions import Condition, ConditionType, Reason
from celeriac.spec.status import MessageQueueStatus, ScalingStatus
from celeriac_operator.metrics import Queues
from celeriac_operator.reconcile import NamedStatus
from celeriac_operator.seen import Key
from celeriac_operator.statuses import stalled

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READY = Condition(
    type=ConditionType.READY,
    status="True",
    reason=Reason.IDLE,
    message="",
    last_transition_time="2026-01-01T00:00:00Z",
    observed_generation=1,
)


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


def exposition(measured: dict[Key, QueueStats], told: dict[Key, NamedStatus]) -> str:
    registry = CollectorRegistry()
    registry.register(
        Queues(stats=lambda: measured, statuses=lambda: told, brokers=lambda: {"redis": True})
    )
    return generate_latest(registry).decode()


def test_queues_of_one_name_in_two_namespaces_stay_apart() -> None:
    measured: dict[Key, QueueStats] = {
        ("a", "mail"): stats("mail", 1),
        ("b", "x"): stats("mail", 2),
    }
    status = MessageQueueStatus(
        replicas=1, desired_replicas=2, scaling=ScalingStatus(needed=3), conditions=[READY]
    )
    text = exposition(measured, {("b", "x"): NamedStatus("mail", status)})
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
    numbers = [line for line in text.splitlines() if line.startswith("mq_autoscaler_replicas{")]
    who = 'namespace="b",queue="mail",resource="x"'
    assert sorted(numbers) == [
        f'mq_autoscaler_replicas{{kind="current",{who}}} 1.0',
        f'mq_autoscaler_replicas{{kind="desired",{who}}} 2.0',
        f'mq_autoscaler_replicas{{kind="raw",{who}}} 3.0',
    ]
    assert f'mq_queue_condition{{{who},status="True",type="Ready"}} 1.0' in text


def test_two_resources_of_one_queue_stay_apart_and_the_stalled_one_is_told() -> None:
    first = MessageQueueStatus(conditions=[READY])
    second = stalled(
        *(None,), name="second", generation=1, reason=Reason.QUEUE_TAKEN, message="", now=NOW
    )
    told = {
        ("a", "first"): NamedStatus("mail", first),
        ("a", "second"): NamedStatus("mail", second),
    }
    text = exposition({("a", "first"): stats("mail", 1)}, told)
    lines = [line for line in text.splitlines() if line.startswith("mq_queue_condition{")]
    assert len(lines) == len(set(lines)) == 1 + len(second.conditions)
    who = 'namespace="a",queue="mail",resource="second"'
    assert f'mq_queue_condition{{{who},status="True",type="Stalled"}} 1.0' in lines
