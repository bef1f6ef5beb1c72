"""Settings, attributes and tools that an app brings along: kept, or told; never passed over in silence."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from contract_worker import Watched, fast

from celeriac.chaos.processes import eventually
from celeriac.spec.pools import POOLS

APP = ("-A", "contract_conf:app")
#: Asyncio runs plain functions with the tracer of the others.
FUNCTION_POOLS = ("solo", "threads", "prefork")


@pytest.fixture
def producer_app(fresh: Watched) -> Any:
    app = Celery("elsewhere", broker=fresh.broker_url, set_as_current=False)
    yield app
    app.close()


@pytest.mark.parametrize("pool", POOLS)
def test_what_has_no_effect_is_told_at_start(fresh: Watched, pool: str) -> None:
    settings = {"worker_concurrency": 7, "task_acks_on_failure_or_timeout": False}
    fresh.start(
        pool,
        *APP,
        CONF_SETTINGS=json.dumps(settings),
        CONF_TASK=json.dumps({"reject_on_worker_lost": True}),
    ).wait_ready()

    for name in (*settings, "reject_on_worker_lost of conf.look"):
        assert f"{name}" in fresh.log
    assert fresh.log.count("has no effect") == 3
    assert f"goes to 'celery' (task_default_queue), not to '{fresh.name}'" in fresh.log


@pytest.mark.parametrize("pool", POOLS)
def test_a_rate_limit_is_kept_by_all_of_a_worker(
    fresh: Watched, producer_app: Celery, pool: str
) -> None:
    """One after the other by the clock, whichever child or thread it is; what has no limit goes on."""
    limit = json.dumps({"rate_limit": "4/s"})
    fresh.start(pool, *APP, CONF_TASK=limit).wait_ready()

    results = [producer_app.send_task("conf.look", queue=fresh.name) for _ in range(8)]
    free = producer_app.send_task("conf.grow", [0], queue=fresh.name)

    fresh.noted(free, "grown")
    began = sorted(fresh.noted(it, "looked")["at"] for it in results)
    assert began[-1] - began[0] >= 7 / 4 - 0.1
    gaps = [later - sooner for sooner, later in itertools.pairwise(began)]
    assert min(gaps) > 0.1
    stats = fresh.settled()
    assert (stats.done, stats.retried, stats.redelivered, stats.imbalance) == (9, 0, 0, 0)


def test_a_rollout_that_adds_a_task_loses_none_of_it(
    fresh: Watched, new_queue: Callable[..., Watched], producer_app: Celery
) -> None:
    """Old and new workers on one queue: what the old ones do not know waits for the new ones."""
    fresh.queue.declare(fast(deadLetter={"unknownTaskSeconds": 300}))
    fresh.start("threads", "-A", "contract_bare:app").wait_ready()
    results = [producer_app.send_task("conf.look", queue=fresh.name) for _ in range(20)]
    eventually(lambda: "is left to other workers for 300 s" in fresh.log, what=lambda: fresh.log)
    newer = new_queue()
    newer.name = fresh.name
    newer.start("threads", *APP, "--name", "newer").wait_ready()
    try:
        for result in results:
            fresh.noted(result, "looked")
        stats = fresh.settled()
    finally:
        newer.end()
    assert (stats.done, stats.dead, stats.redelivered, stats.imbalance) == (20, 0, 0, 0)


def test_a_child_that_has_grown_too_large_is_replaced(fresh: Watched, producer_app: Celery) -> None:
    settings = json.dumps({"worker_max_memory_per_child": 170_000})
    fresh.start("prefork", *APP, "--concurrency", 1, CONF_SETTINGS=settings).wait_ready()

    results = [producer_app.send_task("conf.grow", [50], queue=fresh.name) for _ in range(8)]

    stats = fresh.settled()
    pids = [fresh.noted(it, "grown")["pid"] for it in results]
    assert 2 <= len(set(pids)) <= 4
    assert (stats.done, stats.redelivered) == (8, 0)
    assert "(worker_max_memory_per_child is 170000): another takes its place" in fresh.log


def test_a_task_that_needs_celerys_own_consumer_ends_the_start(fresh: Watched) -> None:
    fresh.start("solo", *APP, CONF_TASK=json.dumps({"Strategy": "celery_batches:Strategy"}))

    assert fresh.wait() == 2
    assert "conf.look has a Strategy of its own" in fresh.log
    assert "Traceback" not in fresh.log


@pytest.mark.parametrize("pool", FUNCTION_POOLS)
def test_what_takes_the_tracers_place_at_start_sees_every_task(
    fresh: Watched, producer_app: Celery, pool: str
) -> None:
    fresh.start(pool, *APP).wait_ready()

    result = producer_app.send_task("conf.look", queue=fresh.name)

    fresh.noted(result, "looked")
    assert fresh.texts(result) == ["watched", "looked"]


def test_a_task_reads_of_its_message_what_celery_tells(
    fresh: Watched, producer_app: Celery
) -> None:
    fresh.start("threads", *APP).wait_ready()

    plain = producer_app.send_task("conf.look", queue=fresh.name)
    later = producer_app.send_task("conf.look", queue=fresh.name, countdown=1, app_id="1234")

    looked = fresh.noted(plain, "looked")
    assert (looked["eta"], looked["app_id"]) == (None, None)
    assert (looked["timelimit"], looked["stamps"]) == ([None, None], {})
    looked = fresh.noted(later, "looked")
    assert looked["app_id"] == "1234"
    due = datetime.fromisoformat(looked["eta"])
    assert abs(due - datetime.now(due.tzinfo)) < timedelta(seconds=20)


def test_a_worker_binds_its_queue_to_the_exchange_that_the_app_declares(
    fresh: Watched, producer_app: Celery
) -> None:
    fresh.start("threads", *APP, CONF_EXCHANGE=f"x-{fresh.name}").wait_ready()

    result = producer_app.send_task(
        "conf.look", exchange=f"x-{fresh.name}", routing_key="mail.new", exchange_type="topic"
    )

    fresh.noted(result, "looked")


def test_a_control_command_that_is_not_done_is_told_in_the_log(
    fresh: Watched, producer_app: Celery
) -> None:
    fresh.start("threads", *APP).wait_ready()
    commands = {"rate_limit": ("conf.look", "1/s"), "add_consumer": ("other",)}

    def heard() -> bool:
        for name, arguments in commands.items():
            getattr(producer_app.control, name)(*arguments)
        producer_app.control.revoke_by_stamped_headers({"tenant": ["t1"]})
        return all(f"control command {it!r} is not done" in fresh.log for it in told)

    told = (*commands, "revoke_by_stamped_headers")
    eventually(heard, what=lambda: fresh.log)
