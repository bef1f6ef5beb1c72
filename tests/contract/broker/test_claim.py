"""What workers are promised when they ask for messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import chain

import pytest
import redis

from celeriac.broker.message import DONE, RetryAt, Settlement
from celeriac.broker.queue import Queue, QueueNotDeclared
from celeriac.spec.policies import QueuePolicy
from tests.conftest import RunningServer
from tests.contract.broker.handy import claim, drain, ids, new, one, pause_ms, policy, settle, some
from tests.contract.broker.strategies import GARBAGE


def test_a_claim_hands_out_at_most_what_was_asked_for_oldest_first(queue: Queue) -> None:
    queue.publish(some(10))
    assert ids(claim(queue, 4)) == ["m0", "m1", "m2", "m3"]
    assert claim(queue, 0) == []
    assert ids(claim(queue, 100)) == [f"m{n}" for n in range(4, 10)]
    assert queue.claim("w", count=5).messages == []


def test_no_message_is_handed_to_two_consumers(valkey: RunningServer, queue: Queue) -> None:
    queue.publish(some(2000))
    got: list[list[str]] = [[] for _ in range(4)]

    def work(number: int) -> None:
        with valkey.client() as client:
            got[number] = drain(Queue(client, queue.name), f"w{number}", 7)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(chain.from_iterable(got)) == sorted(f"m{n}" for n in range(2000))


def test_counters_and_histograms_are_exact_with_several_consumers_at_once(
    valkey: RunningServer, queue: Queue
) -> None:
    queue.publish(some(900))
    queue.publish(some(100, "late", priority="low", delay_ms=1))

    def work(number: int) -> None:
        with valkey.client() as client:
            mine = Queue(client, queue.name)
            while got := claim(mine, 3 + number, f"w{number}"):
                mine.settle([Settlement(m, DONE, 7 if m.id.startswith("m") else 700) for m in got])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    pause_ms(5)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drain(queue)
    stats = queue.stats()
    assert (stats.accepted, stats.done, stats.unfinished, stats.imbalance) == (1000, 1000, 0, 0)
    by_bound = dict(zip(stats.run.bounds_ms, stats.run.counts, strict=False))
    assert (by_bound[10], by_bound[1000]) == (900, 100)
    assert stats.run.sum_ms == 900 * 7 + 100 * 700
    assert sum(stats.run.counts) == sum(stats.wait.counts) == 1000


def test_a_queue_that_nobody_declared_says_so(redis_client: redis.Redis, queue_name: str) -> None:
    queue = Queue(redis_client, queue_name)
    asked: list[Callable[[], object]] = [
        queue.record,
        lambda: queue.claim("w", count=1),
        lambda: queue.claim("w", count=1, held=1),
        queue.reclaim,
        lambda: queue.abandon("w"),
    ]
    for prepare in (
        lambda: None,
        lambda: queue.publish([new()]),
        queue.pause,  # which is remembered, but declares nothing
        queue.resume,
    ):
        prepare()
        for ask in asked:
            with pytest.raises(QueueNotDeclared, match=queue_name):
                ask()
    assert (queue.stats().declared, queue.stats().ready) == (False, 1)
    assert queue.purge() == 1


def test_a_paused_queue_hands_out_nothing_and_goes_on_accepting(queue: Queue) -> None:
    queue.publish([new("a")])
    queue.pause()
    queue.publish([new("b")])
    answer = queue.claim("w", count=10)
    assert (answer.messages, answer.paused, queue.stats().paused) == ([], True, True)
    queue.resume()
    assert ids(claim(queue)) == ["a", "b"]


def test_resuming_by_hand_does_not_undo_a_spec_that_says_paused(queue: Queue) -> None:
    queue.declare(policy(paused=True))
    queue.publish([new()])
    queue.pause()
    queue.resume()
    assert queue.claim("w", count=1).paused
    queue.declare(policy())
    assert ids(claim(queue)) == ["m"]


def test_the_records_version_grows_only_when_something_changed(queue: Queue) -> None:
    version, kept = queue.record()
    assert queue.declare(kept) == version
    queue.resume()
    assert queue.record() == (version, QueuePolicy())
    assert queue.declare(policy(retry={"maxAttempts": 3})) == version + 1
    queue.pause()
    queue.pause()
    assert queue.claim("w", count=1).version == queue.record()[0] == version + 2


@pytest.mark.parametrize("stream", ["high", "normal", "low", "isolated"])
@pytest.mark.parametrize(
    "junk", GARBAGE, ids=["foreign", "no priority", "own letter", "no numbers"]
)
def test_garbage_in_a_stream_becomes_a_dead_letter_and_its_neighbours_are_served(
    queue: Queue, stream: str, junk: dict[str, str]
) -> None:
    queue.publish([new("before")])
    queue.client.xadd(queue.keys.base + stream, junk)  # type: ignore[arg-type]
    queue.publish([new("after")])
    assert drain(queue) == ["before", "after"]
    (letter,) = queue.dead()
    assert letter.reason == "undecodable"
    assert all(str(value).encode() in letter.body for value in junk.values())
    assert queue.stats().imbalance == 0


def test_purged_garbage_is_counted_on_both_sides(queue: Queue) -> None:
    queue.client.xadd(queue.keys.base + "normal", {"what": "ever"})
    assert queue.purge() == 1
    assert (queue.stats().purged, queue.stats().imbalance) == (1, 0)


def test_another_group_on_a_stream_confuses_nobody(queue: Queue) -> None:
    queue.publish(some(4))
    (leased,) = claim(queue, 1)
    stream = queue.keys.base + "normal"
    queue.client.xgroup_create(stream, "audit", id="0")
    queue.client.xreadgroup("audit", "auditor", {stream: ">"}, count=3)
    assert (queue.stats().ready, queue.stats().leased) == (3, 1)
    assert queue.purge() == 3
    assert settle(queue, [leased]) == [True]


# --- waking up --------------------------------------------------------------------------------------


def waiter(server: RunningServer, name: str, woken: list[float]) -> threading.Thread:
    """Start a worker that claims or waits, without a time limit that helps, and notes when it got one."""

    def work() -> None:
        with server.client(socket_timeout=20) as client:
            queue = Queue(client, name)
            while not claim(queue, 1, f"w{threading.get_ident()}"):
                queue.wait(10)
            woken.append(time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_waiting_ends_promptly_when_something_is_published(
    valkey: RunningServer, queue: Queue
) -> None:
    woken: list[float] = []
    thread = waiter(valkey, queue.name, woken)
    pause_ms(100)
    published = time.monotonic()
    queue.publish([new()])
    thread.join()
    assert woken and woken[0] - published < 1


def test_two_idle_workers_both_wake_for_two_publishes(valkey: RunningServer, queue: Queue) -> None:
    woken: list[float] = []
    threads = [waiter(valkey, queue.name, woken) for _ in range(2)]
    pause_ms(100)
    started = time.monotonic()
    queue.publish([new("a")])
    queue.publish([new("b")])
    for thread in threads:
        thread.join()
    assert len(woken) == 2 and max(woken) - started < 2


@pytest.mark.parametrize("kind", ["ready", "isolated first"])
def test_one_publish_of_many_wakes_one_worker_after_the_other(
    valkey: RunningServer, queue: Queue, kind: str
) -> None:
    if kind == "isolated first":
        queue.declare(policy(deadLetter={"maxDeliveries": 2}))
        queue.publish([new("suspect")])
        held = claim(queue)
        queue.pause()
        queue.abandon("w", running=[message.lease for message in held])
    woken: list[float] = []
    threads = [waiter(valkey, queue.name, woken) for _ in range(3)]
    pause_ms(100)
    started = time.monotonic()
    queue.publish(some(10))
    queue.resume()
    for thread in threads:
        thread.join()
    assert len(woken) == 3 and max(woken) - started < 2


def test_a_stale_wake_up_costs_one_claim_and_no_spinning(queue: Queue) -> None:
    for number in range(5):
        queue.publish([new(f"m{number}")])
    drain(queue)
    started = time.monotonic()
    assert not queue.wait(0.2)
    assert time.monotonic() - started >= 0.19


def test_wake_ups_do_not_pile_up_while_nobody_listens(queue: Queue) -> None:
    for number in range(40):
        queue.publish([new(f"m{number}")])
    assert queue.client.llen(queue.keys.wake) <= 16


def test_a_queue_that_goes_on_wakes_those_who_wait(queue: Queue) -> None:
    for stop, go_on in (
        (queue.pause, queue.resume),
        (lambda: queue.declare(policy(paused=True)), lambda: queue.declare(policy())),
    ):
        stop()
        queue.publish([new()])
        while queue.wait(0.01):
            pass
        go_on()
        assert queue.wait(1)
        assert drain(queue)


def test_a_message_that_is_due_soon_wakes_a_worker_that_could_not_know_of_it(queue: Queue) -> None:
    held, retry = one(queue), RetryAt(delay_ms=900)
    for soon in (lambda: queue.publish([new(delay_ms=900)]), lambda: settle(queue, [held], retry)):
        assert claim(queue) == []  # and thus no wake-up is left
        soon()
        assert queue.wait(1)
        answer = queue.claim("w", count=1)
        assert not answer.messages and 0 < answer.next_due_ms <= 900
