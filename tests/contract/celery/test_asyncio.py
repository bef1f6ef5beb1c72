"""Coroutines on the Asyncio pool: many at once, each by itself, and interrupted where they wait."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import contract_async_tasks
import pytest
from celery import chain, chord, group
from celery.canvas import Signature
from contract_app import app
from contract_worker import Watched

from celeriac import Client, Job
from celeriac.broker.server_process import free_port
from celeriac.chaos.processes import eventually
from celeriac.client.progress import read_progress
from celeriac.spec.pools import POOLS
from celeriac.worker.pools.asyncio.drive import CLEANUP_S

ASYNC = ("-A", "contract_async_tasks:app")


@pytest.fixture(scope="module")
def wide(new_queue: Callable[..., Watched]) -> Iterator[Watched]:
    """A worker with a thousand slots."""
    watched = new_queue().start("asyncio", *ASYNC, "--concurrency", 1000).wait_ready()
    yield watched
    watched.end()


@pytest.fixture
def narrow(fresh: Watched) -> Watched:
    """A worker of four slots that one test has for itself."""
    return fresh.start("asyncio", *ASYNC).wait_ready()


# --- many at once ---------------------------------------------------------------------------------------


def test_a_thousand_sleep_at_once(wide: Watched) -> None:
    """All of them within the time of one, give or take the load of the machine."""
    wide.queue.pause()
    results = [wide.send("async.nap", 4, ignore_result=True) for _ in range(1000)]
    wide.queue.resume()
    begun = time.monotonic()
    assert wide.settled(within=30).redelivered == 0
    assert 4 <= time.monotonic() - begun < 8
    notes = [wide.notes(result) for result in results]
    assert max(started["at"] for started, _ in notes) < min(ended["at"] for _, ended in notes)


def test_each_of_a_hundred_sees_its_own_request(wide: Watched) -> None:
    """Also below: in tasks that it starts, and in threads."""
    results = [wide.send("async.look_around", number) for number in range(100)]
    for number, result in enumerate(results):
        seen = result.get(timeout=20)
        assert seen == [[result.id, number]] * 7


def test_functions_run_in_threads_beside_coroutines(narrow: Watched) -> None:
    blocked = [narrow.send("async.block", 0.6) for _ in range(3)]
    for result in blocked:
        narrow.noted(result, "started")
    naps = [narrow.send("async.nap", 0.01) for _ in range(10)]
    assert [nap.get(timeout=5) for nap in naps] == ["rested"] * 10
    assert [result.ready() for result in blocked] == [False] * 3, "they ran at the same time"
    assert [result.get(timeout=5) for result in blocked] == ["rested"] * 3


def test_long_tasks_are_not_hoarded(narrow: Watched, new_queue: Callable[..., Watched]) -> None:
    for _ in range(4):
        narrow.send("async.nap", 0.5, ignore_result=True)
    narrow.settled()
    naps = [narrow.send("async.nap", 1) for _ in range(12)]
    eventually(lambda: sum("started" in narrow.texts(nap) for nap in naps) == 4)
    assert narrow.queue.stats().leased == 4
    assert [nap.get(timeout=10) for nap in naps] == ["rested"] * 12


# --- Celery's ways --------------------------------------------------------------------------------------


def test_retry_from_below(wide: Watched) -> None:
    assert wide.send("async.retry_below").get(timeout=10) == 2


def test_a_chain_of_coroutines_and_functions(wide: Watched) -> None:
    add = app.tasks["add"]
    flow = chain(contract_async_tasks.double.s(1), add.s(3), contract_async_tasks.double.s())
    assert flow.apply_async(queue=wide.name).get(timeout=10) == 10


def test_a_coroutine_task_can_be_called_by_another(wide: Watched) -> None:
    assert wide.send("async.call_another", 20).get(timeout=10) == 41


def test_pydantic_models_go_in_and_out(wide: Watched) -> None:
    assert wide.send("async.model", {"number": 1}).get(timeout=10) == {"number": 2}


def test_progress_is_reported(wide: Watched) -> None:
    result = wide.send("async.progress", 30)
    result.get(timeout=10)
    progress = eventually(
        lambda: (p := read_progress(wide.queue, result.id)) and p.done == p.total and p
    )
    assert (progress.done, progress.total, progress.note) == (30, 30, "on it")


def test_a_context_lasts_from_prerun_to_postrun(wide: Watched) -> None:
    results = [wide.send("async.carry") for _ in range(20)]
    assert [result.get(timeout=10) for result in results] == [f"for {it.id}" for it in results]
    for result in results:
        wide.noted(result, "detached")


@pytest.mark.parametrize("level", ["warning", "info"])
def test_an_app_that_listens_to_nothing(fresh: Watched, queue_name: str, level: str) -> None:
    fresh.start("asyncio", "-A", "contract_bare:app", "--log-level", level)
    client = Client(fresh.broker_url)
    ids = client.send_many(fresh.name, [Job("bare.mark", (n,)) for n in range(100)])
    stats = fresh.settled()
    assert (stats.done, stats.retried, stats.dead, stats.redelivered) == (100, 10, 0, 0)
    assert [fresh.notes(receipt.id) for receipt in ids.receipts] == [[n] for n in range(100)]
    assert fresh.log.count(" succeeded in ") == (100 if level == "info" else 0)


def test_an_app_that_listens_to_nothing_gets_what_it_asks_for(fresh: Watched) -> None:
    fresh.start("asyncio", "-A", "contract_bare:app", "--log-level", "warning", BARE_RESULTS="1")
    calls: list[Signature] = [
        app.signature("bare.add", args=(n, 0)).set(queue=fresh.name) for n in range(6)
    ]
    body = app.signature("bare.total").set(queue=fresh.name)
    assert calls[3].apply_async().get(timeout=10) == 3
    assert chain(calls[4], calls[5]).apply_async().get(timeout=10) == 9
    assert chord(calls)(body).get(timeout=10) == 15
    quiet = {"ignore_result": True}
    first = calls[1].apply_async(link=calls[2].clone(), **quiet)
    assert fresh.settled().dead == 0
    assert fresh.notes(first) == [1]
    members = [call.clone().set(**quiet) for call in calls]
    assert fresh.settled().done == 1 + 2 + 7 + 2, "the linked one too"
    assert chord(members)(body).get(timeout=10) == 15, "a chord counts what has no result"
    last = chain(members[4], members[5]).apply_async()
    fresh.settled()
    assert fresh.notes(last) == [9]
    hooked = app.signature("bare.hooked", args=(7,)).apply_async(queue=fresh.name, **quiet)
    twice = app.signature("bare.twice").apply_async(queue=fresh.name, **quiet)
    fresh.settled()
    assert (fresh.notes(hooked), fresh.notes(twice)) == ([7], [0, 1])


@pytest.mark.parametrize("signal", ["task_prerun", "task_success", "task_postrun"])
def test_an_app_that_listens_to_one_signal(fresh: Watched, signal: str) -> None:
    fresh.start("asyncio", "-A", "contract_bare:app", "--log-level", "warning", BARE_SIGNAL=signal)
    (receipt,) = Client(fresh.broker_url).send_many(fresh.name, [Job("bare.add", (1,))]).receipts
    fresh.settled()
    heard = ["heard", 1] if signal == "task_prerun" else [1, "heard"]
    assert fresh.notes(receipt.id) == heard


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
@pytest.mark.parametrize("done", [True, False])
def test_what_has_succeeded_before_need_not_run_again(fresh: Watched, done: bool) -> None:
    linked = app.tasks["note_result"].s(key=f"linked-{fresh.name}").set(queue=fresh.name)
    result = fresh.send("async.nap", 0, link=linked)
    if done:
        app.backend.store_result(result.id, "rested before", "SUCCESS")
    assert fresh.queue.claim("another", count=1).messages
    fresh.queue.abandon("another")
    fresh.start("asyncio", "-A", "contract_deduplicating:app")
    again = fresh.noted(f"linked-{fresh.name}", "linked")
    assert again["result"] == ("rested before" if done else "rested")
    assert fresh.texts(result) == ([] if done else ["started", "ended"])
    assert fresh.settled().done == 2


@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != "asyncio"])
def test_coroutines_run_on_the_other_pools_too(fresh: Watched, pool: str) -> None:
    fresh.start(pool, *ASYNC)
    results = [fresh.send("async.look_around", 0), fresh.send("async.call_another", 20)]
    assert [seen[0] for seen in results[0].get(timeout=10)][:2] == [results[0].id] * 2
    assert results[1].get(timeout=10) == 41
    assert fresh.send("async.retry_below").get(timeout=10) == 2


@pytest.mark.parametrize("pool", POOLS)
def test_everything_a_coroutine_and_any_pool(fresh: Watched, pool: str, queue_name: str) -> None:
    """autoretry_for, a __call__ of one's own, an error callback: Celery calls all of them as functions."""
    fresh.start(pool, "-A", "contract_coroutines:app")
    assert fresh.send("auto", 2).get(timeout=10) == 2
    watched = fresh.send("watched.add", 1, 2)
    assert watched.get(timeout=10) == 3
    assert fresh.texts(watched).count("__call__") == 1
    errback = app.tasks["note_error"].s(key=queue_name)
    failed = fresh.send("fail", link_error=errback.set(queue=fresh.name))
    assert fresh.noted(queue_name, "errback")["failed"] == failed.id


def test_the_start_is_told_to_the_result_backend_where_a_task_wants_it(wide: Watched) -> None:
    result = wide.send("async.tracked")
    wide.noted(result, "started")
    assert app.backend.get_state(result.id) == "STARTED"
    result.get(timeout=10)
    assert result.state == "SUCCESS"


# --- interruptions --------------------------------------------------------------------------------------


def test_the_soft_limit_strikes_where_a_coroutine_waits(wide: Watched) -> None:
    result = wide.send("async.softly_inside", soft_time_limit=0.2)
    assert result.get(timeout=10) == "cleaned up"
    assert sorted(wide.texts(result)) == ["child cancelled", "child cancelled", "started"]


def test_the_hard_limit_lets_a_coroutine_clean_up(wide: Watched) -> None:
    result = wide.send("async.clean_up", time_limit=0.2, headers={"max_attempts": 1})
    letter = wide.dead(result)
    assert (letter.error, letter.history[0]["reason"]) == ("TimeLimitExceeded", "hard_time_limit")
    assert wide.texts(result)[:3] == ["started", "cancelled", "cleaned up"]
    eventually(lambda: app.backend.get_state(result.id) == "FAILURE")
    assert "await asyncio.sleep(30)" in app.backend.get_traceback(result.id), "where it was"


@pytest.mark.parametrize("task", ["async.swallow", "async.wait_for_swallower"])
def test_what_swallows_its_cancellation_ends_all_the_same(wide: Watched, task: str) -> None:
    begun = time.monotonic()
    result = wide.send(task, time_limit=0.2, headers={"max_attempts": 1})
    assert wide.dead(result).error == "TimeLimitExceeded"
    assert time.monotonic() - begun < 0.2 + 2 * CLEANUP_S + 3
    assert f"{task}[{result.id}] swallows its cancellation" in wide.log
    assert (f"{task}[{result.id}] waits for something" in wide.log) == ("wait_for" in task)
    before = len(wide.notes(result))
    time.sleep(0.2)
    assert len(wide.notes(result)) == before, "it is gone"


def test_terminate_cancels_a_coroutine(wide: Watched) -> None:
    before = wide.queue.stats()
    result = wide.send("async.clean_up")
    wide.noted(result, "started")
    answer = app.control.revoke(
        result.id, terminate=True, destination=[f"asyncio-{wide.name}"], reply=True, limit=1
    )
    assert result.id in next(iter(answer[0].values()))["ok"]
    wide.noted(result, "task_revoked")
    after = wide.settled()
    assert (after.discarded, after.redelivered) == (before.discarded + 1, before.redelivered)
    assert app.backend.get_state(result.id) == "REVOKED"
    assert wide.texts(result) == ["started", "cancelled", "cleaned up", "task_revoked"]


def test_a_coroutine_that_cancels_itself_has_failed(wide: Watched) -> None:
    letter = wide.dead(wide.send("async.cancel_oneself"))
    assert (letter.error, letter.attempt) == ("CancelledError", 3)


def test_an_exit_from_below_is_a_failed_attempt(wide: Watched) -> None:
    result = wide.send("async.exit_below")
    assert wide.dead(result).error == "SystemExit"
    assert wide.texts(result).count("ran") == 3
    assert wide.send("async.double", 4).get(timeout=10) == 8


def test_a_loop_that_is_held_up_is_told(wide: Watched) -> None:
    wide.send("async.hold_up", 1.5).get(timeout=10)
    eventually(lambda: "the event loop goes on" in wide.log)
    assert "async.hold_up[" in wide.log
    assert "holds up the event loop" in wide.log
    assert "time.sleep(seconds)" in wide.log


def test_only_limits_of_functions_are_warned_of(fresh: Watched) -> None:
    fresh.start("asyncio", *ASYNC, "--timeout", 5).wait_ready()
    assert "the asyncio pool cannot interrupt a plain def task" in fresh.log
    assert "the time limits of the queue and task limited_hard, limited_softly are not" in fresh.log
    fresh.end()
    fresh.log_file.unlink()
    fresh.start("asyncio", "-A", "contract_coroutines:app", "--timeout", 5).wait_ready()
    assert "task limited_hard" not in fresh.log


# --- the end --------------------------------------------------------------------------------------------


def test_sigterm_lets_coroutines_finish_and_hands_back_the_rest(narrow: Watched) -> None:
    naps = [narrow.send("async.nap", 0.8) for _ in range(30)]
    eventually(lambda: sum("started" in narrow.texts(nap) for nap in naps) == 4)
    narrow.signal(signal.SIGTERM)
    assert narrow.wait() == 0
    ran = [narrow.texts(nap) for nap in naps]
    assert ran.count(["started", "ended"]) == 4
    assert ran.count([]) == 26
    stats = narrow.queue.stats()
    assert (stats.done, stats.ready, stats.leased, stats.redelivered) == (4, 26, 0, 0)
    assert stats.imbalance == 0
    assert not stats.workers


@pytest.mark.parametrize("again", [False, True])
def test_a_drain_does_not_take_longer_than_it_may(fresh: Watched, again: bool) -> None:
    fresh.start("asyncio", *ASYNC, "--drain", 30 if again else 0.3).wait_ready()
    naps = [fresh.send("async.nap", 20), fresh.send("async.block", 20)]
    for nap in naps:
        fresh.noted(nap, "started")
    fresh.signal(signal.SIGTERM)
    if again:
        eventually(lambda: "drains" in fresh.log)
        fresh.signal(signal.SIGTERM)
    assert fresh.wait(within=3) == 0
    stats = fresh.queue.stats()
    assert (stats.ready, stats.leased, stats.redelivered) == (2, 0, 0)


def test_what_a_task_left_behind_does_not_hold_up_the_end(narrow: Watched) -> None:
    narrow.send("async.leave_behind", 60).get(timeout=10)
    swallower = narrow.send("async.wait_for_swallower", time_limit=0.1, headers={"max_attempts": 1})
    narrow.dead(swallower)
    narrow.signal(signal.SIGTERM)
    assert narrow.wait(within=2 * CLEANUP_S + 3) == 0
    assert "has drained" in narrow.log


@pytest.mark.parametrize("name", ["", "successor"])
def test_a_killed_workers_coroutines_run_again(fresh: Watched, name: str) -> None:
    fresh.start("asyncio", *ASYNC).wait_ready()
    naps = [fresh.send("async.nap", 0.5) for _ in range(4)]
    for nap in naps:
        fresh.noted(nap, "started")
    fresh.end()
    assert fresh.queue.stats().leased == 4
    fresh.start("asyncio", *ASYNC, *(["--name", name] if name else []))
    assert [nap.get(timeout=10) for nap in naps] == ["rested"] * 4
    assert {tuple(fresh.texts(nap)) for nap in naps} == {("started", "started", "ended")}
    assert fresh.settled().redelivered == 4


def test_a_result_backend_that_is_away_holds_up_no_other(fresh: Watched) -> None:
    """Results are stored beside the loop: coroutines without results go on meanwhile."""
    fresh.start("asyncio", *ASYNC, CONTRACT_BACKEND=f"redis://127.0.0.1:{free_port()}/0")
    results = group(contract_async_tasks.double.s(n) for n in range(8))
    results.apply_async(queue=fresh.name)
    ignored = [fresh.send("async.nothing", ignore_result=True) for _ in range(50)]
    stats = fresh.settled()
    assert (stats.done, stats.dead, stats.redelivered) == (len(ignored), 8, 0)
    assert not fresh.ended
