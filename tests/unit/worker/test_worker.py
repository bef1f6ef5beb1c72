"""A worker from its start to its end on a scripted queue, and what it tells of itself meanwhile."""

from __future__ import annotations

import http.client
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import redis
from celery import Celery

from celeriac.broker.eviction import EvictingServer
from celeriac.broker.message import DONE, Claim
from celeriac.broker.queue import Queue
from celeriac.worker import http as endpoints
from celeriac.worker import run_worker
from celeriac.worker.app_check import NotRunnable
from celeriac.worker.broker_check import BrokerCheck
from celeriac.worker.closing import Closing
from celeriac.worker.consumer import LONGEST_WAIT_S
from celeriac.worker.context import BROKER_TIMEOUT_S, SHORTEST_TIMEOUT_S, WorkerContext
from celeriac.worker.http import Health
from celeriac.worker.main import Worker
from celeriac.worker.options import WorkerOptions, check
from celeriac.worker.pools.base import STALE_S
from celeriac.worker.pools.solo import Solo
from celeriac.worker.pools.threads import Threads
from tests.scripted import ScriptedRedis
from tests.unit.worker.scripted import (
    NOTHING,
    ScriptedContext,
    ScriptedQueue,
    claim_of,
    heard,
    message,
    taken,
)

CALM = {"maxmemory": 0, "maxmemory_policy": "noeviction"}
EVICTING = {"maxmemory": 1, "maxmemory_policy": "allkeys-lru"}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    app = Celery("working", set_as_current=False)
    app.conf.worker_hijack_root_logger = False
    app.conf.worker_enable_remote_control = False

    @app.task(name="t", shared=False)
    def task() -> None:
        pass

    app.finalize()
    return app


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> ScriptedQueue:
    """The queue of every worker here; the server behind it only says how it is set up."""
    queue = ScriptedQueue()
    queue.client = ScriptedRedis(info=CALM)
    monkeypatch.setattr(WorkerContext, "_connect", lambda self: queue)
    monkeypatch.delenv("CELERIAC_PARENT_PID", raising=False)
    return queue


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """A worker answers signals; afterwards they are the tests' again."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A worker that overruns its grace time ends its process: not this one, which would look like success."""
    left: list[int] = []
    monkeypatch.setattr("celeriac.worker.housekeeper._leave", lambda: left.append(1))
    yield left
    assert not left


def options(pool: str = "solo", **changes: Any) -> WorkerOptions:
    return WorkerOptions(
        **{"queue": "q", "name": "w", "pool": pool, "broker": "celeriac://localhost:1", **changes}
    )


def deadline_s(worker: Worker) -> float:
    """In how many seconds the rest is to be handed back."""
    assert isinstance(worker.pool, Solo | Threads)
    return worker.pool.housekeeper._deadline - time.monotonic()


def signalled(number: int = signal.SIGTERM) -> Callable[[], Claim]:
    """An answer in the midst of which a signal comes."""

    def answer() -> Claim:
        os.kill(os.getpid(), number)
        return NOTHING

    return answer


# --- from start to end ----------------------------------------------------------------------------------


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("pool", "number"),
    [("solo", signal.SIGTERM), ("threads", signal.SIGTERM), ("solo", signal.SIGINT)],
)
def test_it_runs_what_comes_until_it_is_told_to_end(
    app: Celery, queue: ScriptedQueue, pool: str, number: int
) -> None:
    queue.answers["claim"] = [claim_of(1), signalled(number)]
    names = (
        *("celeryd_init", "celeryd_after_setup", "worker_init"),
        *("worker_process_init", "worker_ready"),
    )
    last = ("worker_shutting_down", "worker_shutdown")
    with heard(*names, *last) as said:
        assert run_worker(app, options(pool)) == 0
    settled = [it for batch in queue.told("settle") for it in batch]
    assert [(it.message.id, it.outcome) for it in settled] == [("id-1", DONE)]
    assert queue.asked[-1] == ("abandon", ("w", []))
    assert [name for name, _ in said] == [*names, *last]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("enabled", [True, False])
def test_remote_control_is_there_while_it_runs_unless_the_app_says_otherwise(
    app: Celery, queue: ScriptedQueue, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    did: list[str] = []

    class Remote:
        def __init__(self, *_: Any, hostname: str, queue: str, worker: Worker, quiet: Any) -> None:
            assert (hostname, queue, worker.name) == ("w", "q", "w")

        def start(self) -> None:
            did.append("start")

        def stop(self) -> None:
            did.append("stop")

    monkeypatch.setattr("celeriac.worker.main.RemoteControl", Remote)
    app.conf.worker_enable_remote_control = enabled
    queue.answers["claim"] = [signalled()]
    run_worker(app, options())
    assert did == (["start", "stop"] if enabled else [])


@pytest.mark.timeout(30)
def test_a_server_that_deletes_messages_is_refused_at_once(
    app: Celery, queue: ScriptedQueue
) -> None:
    queue.client = ScriptedRedis(info=EVICTING)
    with pytest.raises(EvictingServer):
        run_worker(app, options())
    assert not queue.asked


@pytest.mark.timeout(30)
def test_a_server_that_turns_out_to_delete_messages_ends_the_worker(
    app: Celery, queue: ScriptedQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac.worker.broker_check._AGAIN_S", 0.01)
    answers = [redis.ConnectionError("away"), EVICTING]
    queue.client = ScriptedRedis(info=lambda *_: answers.pop(0))

    def idle() -> Claim:
        time.sleep(0.01)
        return NOTHING

    queue.answers["claim_when_woken"] = idle
    assert run_worker(app, options()) == 1


@pytest.mark.timeout(30)
def test_its_probes_answer_while_it_runs(app: Celery, queue: ScriptedQueue) -> None:
    worker = Worker(app, options(http_port=0))
    seen: list[tuple[int, str]] = []

    def look() -> Claim:
        assert worker._http is not None
        port = worker._http.server_address[1]
        seen.extend(get(port, path) for path in ("/livez", "/readyz"))
        worker.shut_down()
        seen.append(get(port, "/readyz"))
        return NOTHING

    queue.answers["claim"] = look
    worker.run()
    assert worker._http is not None
    worker._http.server_close()
    assert seen == [(200, "ok\n"), (200, "ok\n"), (503, "draining\n")]


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    said = answer.status, answer.read().decode()
    connection.close()
    return said


# --- the drain ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize("pool", ["solo", "threads", "prefork"])
def test_the_first_signal_starts_the_drain(app: Celery, pool: str) -> None:
    worker = Worker(app, options(pool, drain_s=20))
    worker._on_signal(signal.SIGTERM, None)
    assert worker.consumer.closing.is_set()
    if pool != "prefork":
        assert deadline_s(worker) == pytest.approx(20, abs=1)


@pytest.mark.usefixtures("queue")
def test_the_second_signal_ends_it(app: Celery) -> None:
    worker = Worker(app, options(drain_s=20))
    worker._on_signal(signal.SIGTERM, None)
    worker._on_signal(signal.SIGTERM, None)
    assert deadline_s(worker) <= 0


@pytest.mark.usefixtures("queue")
def test_no_deadline_is_set_before(app: Celery) -> None:
    assert deadline_s(Worker(app, options())) > 1e9


# --- what it tells --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("queue")
def test_how_it_is(app: Celery) -> None:
    worker = Worker(app, options("threads", concurrency=3))
    assert worker.health() == Health(True, False, "the broker is out of reach\n", 3, 0)
    worker.consumer.link.connected_since = 5
    assert worker.health() == Health(True, True, "ok\n", 3, 0)
    worker.consumer.inflight.begin(message(), 0, ours=True)
    assert worker.health().busy == 1
    worker.consumer.closing.set()
    assert worker.health() == Health(True, False, "draining\n", 3, 1)


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize(("silent_s", "live"), [(0.9 * STALE_S, True), (1.1 * STALE_S, False)])
def test_a_worker_whose_threads_stand_still_is_not_live(
    app: Celery, silent_s: float, live: bool
) -> None:
    worker = Worker(app, options())
    assert isinstance(worker.pool, Solo)
    worker.pool.housekeeper.beat = time.monotonic() - silent_s
    health = worker.health()
    assert health.live is live
    assert ("no progress" in health.reason) is not live


@pytest.mark.usefixtures("queue")
def test_what_runs_and_what_has_run(app: Celery) -> None:
    worker = Worker(app, options())
    worker.consumer.inflight.begin(message(4), 0, ours=True)
    worker.consumer.settler.count = 7
    assert worker.active() == [{"id": "id-4", "name": "t", "hostname": "w"}]
    assert worker.reserved() == []
    pool = {"implementation": "solo", "max-concurrency": 1}
    assert worker.stats() == {"total": {"q": 7}, "pool": pool}


@pytest.mark.parametrize("terminate", [False, True])
def test_revoking_reaches_the_queue(
    app: Celery, queue: ScriptedQueue, terminate: bool, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(app, options())
    assert worker.revoke("id-1", terminate=terminate) is False
    assert queue.told("cancel") == ["id-1"]
    assert ("not terminated" in caplog.text) is terminate


@pytest.mark.usefixtures("queue")
def test_what_a_pool_has_stopped_is_said(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(app, options())
    monkeypatch.setattr(worker.pool, "terminate", lambda id_: id_ == "id-1")
    assert worker.revoke("id-1", terminate=True)
    assert not worker.revoke("id-1", terminate=False)


def test_what_was_dropped_is_told_to_celery(app: Celery, queue: ScriptedQueue) -> None:
    queue.answers["claim"] = [Claim([], 0, again=True, dropped=[(message(), "expired")])]
    worker = Worker(app, options())
    with heard("task_revoked") as said:
        worker.consumer.claim()
    ((_, told),) = said
    assert told["expired"] is True


# --- endpoints ------------------------------------------------------------------------------------------


def test_probes_and_metrics() -> None:
    now: list[Health] = []
    server = endpoints.server(
        lambda: now[-1], queue="q", host="127.0.0.1", port=0, quiet=nullcontext()
    )
    server.start()
    port = server.server_address[1]
    try:
        for health, live, ready in (
            (Health(True, True, "ok\n", 3, 1), (200, "ok\n"), (200, "ok\n")),
            (Health(True, False, "why\n", 3, 1), (200, "ok\n"), (503, "why\n")),
            (Health(False, False, "why\n", 3, 1), (503, "why\n"), (503, "why\n")),
        ):
            now.append(health)
            assert get(port, "/livez") == live
            assert get(port, "/readyz") == ready
            status, metrics = get(port, "/metrics")
            assert status == 200
            assert 'mq_worker_slots{queue="q"} 3.0' in metrics
            assert 'mq_worker_slots_busy{queue="q"} 1.0' in metrics
            assert f'mq_worker_ready{{queue="q"}} {float(health.ready)}' in metrics
        assert get(port, "/elsewhere")[0] == 404
    finally:
        server.shutdown()
        server.server_close()


# --- the context ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "conf", "limits"),
    [
        ({}, {}, (0, 0)),
        ({"timeout_s": 5, "soft_timeout_s": 3}, {}, (3, 5)),
        ({"timeout_s": 5}, {"task_soft_time_limit": 2}, (0, 5)),
        ({}, {"task_soft_time_limit": 2, "task_time_limit": 4}, (2, 4)),
    ],
)
def test_the_queues_limits_come_before_the_apps(
    app: Celery, given: dict[str, float], conf: dict[str, int], limits: tuple[float, float]
) -> None:
    app.conf.update(conf)
    assert ScriptedContext(app, ScriptedQueue(), **given).limits() == limits


@pytest.mark.parametrize(
    ("lease_s", "timeout_s"), [(60, BROKER_TIMEOUT_S), (10, 5), (1, SHORTEST_TIMEOUT_S)]
)
def test_a_silent_broker_is_given_up_in_time_to_renew(
    app: Celery, lease_s: int, timeout_s: float
) -> None:
    context = WorkerContext(app, options(lease_s=lease_s))
    queue = context.queue
    assert queue.client.connection_pool.connection_kwargs["socket_timeout"] == timeout_s
    assert timeout_s > LONGEST_WAIT_S
    assert (queue.name, queue.lease_ms) == ("q", lease_s * 1000)


def test_a_child_has_a_connection_of_its_own(app: Celery) -> None:
    mine, childs = ScriptedQueue(), ScriptedQueue()
    context = ScriptedContext(app, mine, childs)
    consumer, child = context.consumer(slots=3), context.child_consumer("w/1")
    assert (consumer.queue, child.queue) == (mine, childs)
    assert (consumer.name, child.name) == ("w", "w/1")
    assert (consumer.prefetch.slots, child.prefetch.slots) == (3, 1)


def test_a_worker_has_a_name_which_tells_its_process_apart(app: Celery) -> None:
    context = WorkerContext(app, options(name=""))
    assert context.name.startswith("q@")
    assert context.name.endswith(f":{os.getpid()}")


def test_who_started_it_is_known(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_PARENT_PID", "12")
    assert WorkerContext(app, options()).parent == 12
    monkeypatch.delenv("CELERIAC_PARENT_PID")
    assert WorkerContext(app, options()).parent == 0


def test_a_runner_asks_its_own_consumer_for_the_policy(app: Celery) -> None:
    from celeriac.worker.runner import AttemptRunner

    context = ScriptedContext(app, ScriptedQueue(), ScriptedQueue())
    child = context.child_consumer("w/1")
    runner = context.runner(AttemptRunner, child)
    assert runner.policy() is child.policy()
    assert (runner.worker, runner.queue) == ("w/1", child.queue)


@pytest.mark.parametrize(
    ("soft_s", "hard_s", "good"), [(0, 0, True), (1, 2, True), (2, 0, True), (2, 2, False)]
)
def test_a_soft_limit_is_less_than_the_hard_one(soft_s: float, hard_s: float, good: bool) -> None:
    given = options(soft_timeout_s=soft_s, timeout_s=hard_s)
    if good:
        check(given)
        return
    with pytest.raises(ValueError, match="less than the hard one"):
        check(given)


def test_a_worker_runs_where_signals_arrive() -> None:
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(check, options())
        with pytest.raises(ValueError, match="in the main thread"):
            answer.result()


# --- the check of the broker ----------------------------------------------------------------------------


def check_of(**answers: Any) -> tuple[BrokerCheck, list[int]]:
    stopped: list[int] = []
    client = ScriptedRedis(**answers)
    return BrokerCheck(client, closing=Closing(), stop=lambda: stopped.append(1)), stopped


def test_a_good_broker_passes_and_is_not_asked_again() -> None:
    it, stopped = check_of(info=CALM)
    it.now()
    it.later()
    it._ask()
    assert (it.refused, stopped) == (False, [])
    assert isinstance(it._client, ScriptedRedis)
    assert it._client.times("info") == 1


def test_a_broker_that_is_away_is_asked_until_it_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("celeriac.worker.broker_check._AGAIN_S", 0.01)
    answers = [redis.ConnectionError(), redis.ConnectionError(), EVICTING]
    it, stopped = check_of(info=lambda *_: answers.pop(0))
    it.now()
    it._ask()
    assert (it.refused, stopped) == (True, [1])
    assert "The worker stops" in caplog.text


def test_nobody_asks_on_when_the_worker_closes() -> None:
    it, _ = check_of(info=redis.ConnectionError())
    it.now()
    it._closing.set()
    it._ask()
    assert not it.refused


def test_threads_share_one_consumer(app: Celery) -> None:
    context = ScriptedContext(
        app, ScriptedQueue(claim=[claim_of(1)]), pool="threads", concurrency=2
    )
    pool = Threads(context)
    assert pool.consumer.claim()
    it = taken(pool.consumer)
    assert pool.running() == []
    pool.consumer.begin(it)
    assert pool.running() == [it]
    assert not pool.terminate(it.id) and not pool.stop_taken(it)


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"timeout_s": 2, "soft_timeout_s": 2}, "less than the hard one"),
        ({"concurrency": 2}, "one task at a time"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    app: Celery, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        Worker(app, options(**changes))


@pytest.mark.usefixtures("queue")
def test_the_app_is_set_up_as_a_workers(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    logging_set_up: list[Any] = []
    monkeypatch.setattr(app.log, "setup", lambda *it, **more: logging_set_up.append((it, more)))
    Worker(app, options(log_level="ERROR"))._set_up_app()
    assert logging_set_up == [(("ERROR",), {"redirect_stdouts": False, "hostname": "w"})]
    assert app.loader.worker_initialized


@pytest.mark.usefixtures("queue")
def test_an_app_that_needs_celerys_own_consumer_is_refused(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.tasks["t"], "Strategy", "elsewhere:Batches", raising=False)
    with pytest.raises(NotRunnable):
        Worker(app, options())._set_up_app()


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize("blueprint", ["worker", "consumer"])
def test_bootsteps_are_not_run_and_that_is_said(
    app: Celery, blueprint: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(app, options())
    worker._set_up_app()
    assert "bootsteps" not in caplog.text
    app.steps[blueprint].add(object)
    worker._set_up_app()
    assert "custom bootsteps are not run" in caplog.text


@pytest.mark.usefixtures("queue")
def test_limits_that_a_pool_cannot_keep_are_told(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    Worker(app, options(timeout_s=5))._set_up_app()
    assert "the time limits of the queue are not kept" in caplog.text


def test_the_apps_broker_is_the_workers(app: Celery, queue: ScriptedQueue) -> None:
    assert isinstance(queue, Queue)
    Worker(app, options())._set_up_app()
    assert app.conf.broker_url == "celeriac://localhost:1/0"
