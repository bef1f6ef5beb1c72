"""What happens to messages whose workers stall, leave or die."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from celeriac.broker.message import DONE, DeadLetter, Message, RetryAt
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy
from tests.contract.broker.handy import claim, drain, ids, new, one, pause_ms, policy, settle, some


def test_a_lease_that_is_not_renewed_expires_and_one_that_is_does_not(queue: Queue) -> None:
    queue.publish(some(2))
    kept, lost = claim(queue)
    pause_ms(310)
    assert queue.renew("w", [kept.lease]) == set()
    assert queue.reclaim(lease_ms=300) == 1
    (again,) = claim(queue, consumer="other")
    assert (again.id, again.delivery, again.lost, again.attempt) == (lost.id, 2, 1, 0)
    assert queue.renew("w", [kept.lease, lost.lease]) == {lost.lease}
    assert settle(queue, [kept, again]) == [True, True]
    assert queue.stats().redelivered == 1


class Starved(Exception):
    """The machine held the test up for so long that to the server it is the server that stood still."""


class Watch:
    """Looks at a queue every now and then. Raises Starved when it could not look as often as it must."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.looked = time.monotonic()

    def look(self, *, seconds: float, reclaim: bool = True) -> int:
        """Look for so long; return how many were reclaimed."""
        until, back = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            back += self._queue.watch(reclaim=reclaim)
            if time.monotonic() - self.looked > self._queue.lease_ms / 2100:
                raise Starved
            self.looked = time.monotonic()
            time.sleep(0.02)
        return back


def undisturbed(queue: Queue, lease_ms: int, body: Callable[[Queue], None]) -> None:
    """Run a test on a fresh queue, and once more when the machine held it up."""
    for number in range(20):
        fresh = Queue(queue.client, f"{queue.name}-{number}", lease_ms=lease_ms)
        fresh.declare(QueuePolicy())
        with suppress(Starved):
            return body(fresh)
    pytest.fail("this machine is too busy to look at a queue several times in a lease")


def test_while_somebody_watches_what_expires_is_reclaimed(queue: Queue) -> None:
    def body(queue: Queue) -> None:
        watch = Watch(queue)
        assert watch.look(seconds=0.5) == 0
        queue.publish(some(2))
        kept, _ = claim(queue)
        pause_ms(150)
        queue.renew("w", [kept.lease])
        assert watch.look(seconds=0.3) == 1
        assert queue.stats().leased == 1

    undisturbed(queue, 400, body)


def test_a_server_that_stood_still_gives_holders_time_to_renew(queue: Queue) -> None:
    def body(queue: Queue) -> None:
        watch = Watch(queue)
        assert watch.look(seconds=0.5) == 0
        queue.publish(some(2))
        kept, lost = claim(queue)
        pause_ms(410)  # nobody could ask anything, for all that the server knows
        assert queue.watch() == 0, "it is the server that stood still"
        watch.looked = time.monotonic()
        assert queue.renew("w", [kept.lease]) == set()
        assert watch.look(seconds=0.3) == 0
        queue.renew("w", [kept.lease])
        assert watch.look(seconds=0.2) == 1
        (again,) = claim(queue, consumer="other")
        assert again.id == lost.id

    undisturbed(queue, 400, body)


def test_who_only_looks_reclaims_nothing_but_keeps_watch(queue: Queue) -> None:
    def body(queue: Queue) -> None:
        queue.publish(some(1))
        claim(queue)
        watch = Watch(queue)
        assert watch.look(seconds=0.3, reclaim=False) == 0
        assert queue.watch() == 1

    undisturbed(queue, 200, body)


def test_one_reclaim_takes_a_part_of_a_flood(queue: Queue) -> None:
    queue.publish(some(700))
    claim(queue, 700)
    pause_ms(3)
    assert [queue.reclaim(lease_ms=1) for _ in range(3)] == [500, 200, 0]
    assert (queue.stats().ready, queue.stats().imbalance) == (700, 0)


def test_releasing_is_free_unless_it_is_charged(queue: Queue) -> None:
    queue.publish(some(2))
    free, charged = claim(queue)
    assert queue.release("w", [free.lease]) == 1
    assert queue.release("w", [charged.lease], charged=True, reason="stopped") == 1
    assert queue.release("w", [free.lease, charged.lease]) == 0
    assert queue.release("w", []) == 0
    first, second = claim(queue)
    assert (first.id, first.delivery, first.lost, first.history) == ("m0", 1, 0, b"")
    assert (second.id, second.delivery, second.lost) == ("m1", 2, 1)
    assert b'"stopped"' in second.history


@pytest.mark.parametrize("way", ["released", "reclaimed", "abandoned", "retried", "redriven"])
def test_what_comes_back_wakes_an_idle_worker(queue: Queue, way: str) -> None:
    message = one(queue)
    if way == "redriven":
        settle(queue, [message], DeadLetter(reason="broken"))
    while queue.wait(0.01):
        pass  # the wake-ups of before
    if way == "released":
        queue.release("w", [message.lease])
    elif way == "reclaimed":
        pause_ms(3)
        queue.reclaim(lease_ms=1)
    elif way == "abandoned":
        queue.abandon("w")
    elif way == "retried":
        settle(queue, [message], RetryAt(delay_ms=0))
    else:
        queue.redrive([letter.entry for letter in queue.dead()])
    assert queue.wait(1)


def test_a_dead_worker_is_charged_for_what_it_was_running_only(queue: Queue) -> None:
    queue.publish(some(1100))
    held = claim(queue, 1100, "dead")
    running = [held[7].lease, held[900].lease]
    assert queue.abandon("dead", running=running) == 1100
    back = claim(queue, 2000)
    assert {message.id for message in back if message.lost} == {"m7", "m900"}
    assert [worker.name for worker in queue.stats().workers] == ["w"]


def test_without_knowledge_a_dead_worker_is_charged_for_all_and_others_for_nothing(
    queue: Queue,
) -> None:
    queue.publish(some(4))
    claim(queue, 2, "dead")
    alive = claim(queue, 2, "alive")
    assert queue.abandon("dead") == 2
    assert [message.lost for message in claim(queue)] == [1, 1]
    assert settle(queue, alive) == [True, True]


def test_what_a_lost_answer_handed_out_goes_back_free_of_charge(queue: Queue) -> None:
    queue.publish([*some(6), *some(2, "h", priority="high")])
    heard = claim(queue, 3)
    claim(queue, 5)  # the answer is lost
    newest = {message.lease[0]: message.lease[1:] for message in heard}
    assert queue.take_back_unheard("w", newest) == 5
    assert [message.lost for message in claim(queue, consumer="other")] == [0] * 5
    assert settle(queue, heard) == [True] * 3
    assert queue.take_back_unheard("other", {}) == 5


def kill_until_dead(queue: Queue, poison: str, **claiming: int) -> tuple[int, list[Message]]:
    """Run everything in workers that die whenever they run the poison; count deaths."""
    deaths, done = 0, []
    for life in range(100):
        got = claim(queue, consumer=f"life{life}", **claiming)
        if not got:
            break
        if any(message.id == poison for message in got):
            deaths += 1
            queue.abandon(f"life{life}")
        else:
            assert all(settle(queue, got))
            done += got
    return deaths, done


@pytest.mark.parametrize("most", [2, 3, 5])
def test_a_poison_message_is_stopped_and_its_ten_neighbours_are_all_done(
    queue: Queue, most: int
) -> None:
    queue.declare(policy(deadLetter={"maxDeliveries": most}))
    queue.publish([*some(5, "a"), new("poison"), *some(5, "b")])
    deaths, done = kill_until_dead(queue, "poison")
    assert deaths == most
    assert sorted(ids(done)) == sorted([f"a{n}" for n in range(5)] + [f"b{n}" for n in range(5)])
    (letter,) = queue.dead()
    assert (letter.id, letter.reason, letter.delivery, letter.attempt) == (
        *("poison", "delivery_limit", most, 0),
    )
    assert [line["delivery"] for line in letter.history] == list(range(most, 0, -1))
    assert (queue.stats().done, queue.stats().imbalance) == (10, 0)


def test_a_stream_of_new_neighbours_is_not_harmed_either(queue: Queue) -> None:
    queue.publish([new("poison", priority="low")])
    lost = 0
    for number in range(40):
        queue.publish(some(3, f"n{number}-", priority="high"))
        got = claim(queue, 4, f"life{number}")
        if "poison" in ids(got):
            queue.abandon(f"life{number}")
            lost = max(lost, *(message.lost + 1 for message in got if message.id != "poison"), 0)
        else:
            settle(queue, got)
    assert lost <= 2
    assert ids_of_dead(queue) in ([], ["poison"])
    kill_until_dead(queue, "poison")
    assert ids_of_dead(queue) == ["poison"]
    assert queue.stats().done == 120


def ids_of_dead(queue: Queue) -> list[str]:
    return [letter.id for letter in queue.dead()]


def test_a_suspect_comes_alone_and_only_to_an_idle_worker(queue: Queue) -> None:
    queue.declare(policy(deadLetter={"maxDeliveries": 2}))
    one(queue, "suspect")
    queue.abandon("w")
    queue.publish(some(3))
    assert queue.stats().ready_by["isolated"] == 1
    assert ids(claim(queue, 1, "busy", held=2)) == ["m0"]
    (suspect,) = claim(queue, 10, "idle")
    assert (suspect.id, suspect.isolated, suspect.priority) == ("suspect", True, "normal")
    assert settle(queue, [suspect], RetryAt(delay_ms=0)) == [True]
    assert ids(claim(queue, 10, "idle")) == ["suspect"]  # a good end alone clears it of nothing


def test_a_suspect_that_waited_too_long_keeps_busy_workers_from_claiming_more(queue: Queue) -> None:
    queue.publish([new("other")])
    now = int(time.time() * 1000)
    fields = dict(
        zip("pitqadlxyhb", ["n", "old", "t", "1", "0", "2", "2", "0", "", "", ""], strict=True)
    )
    queue.client.xadd(queue.keys.base + "isolated", fields, id=f"{now - 40_000}-0")  # type: ignore[arg-type]
    assert claim(queue, 5, held=1) == []
    assert ids(claim(queue, 5, held=0)) == ["old"]
    assert ids(claim(queue, 5, held=1)) == ["other"]


def test_workers_that_left_are_forgotten_once_they_hold_nothing(queue: Queue) -> None:
    queue.publish(some(1))
    (held,) = claim(queue, consumer="busy")
    claim(queue, consumer="gone")
    pause_ms(40)
    claim(queue, consumer="alive")
    queue.renew("busy", [held.lease])
    for name in ("busy", "gone"):  # both have been silent for more than ten lease times
        queue.client.zincrby(queue.keys.base + "workers", -1_000_000, name)
    queue.reclaim(lease_ms=10_000)
    assert [(w.name, w.leased) for w in queue.stats().workers] == [("alive", 0), ("busy", 1)]
    assert settle(queue, [held], DONE) == [True]
    groups = queue.client.xinfo_consumers(queue.keys.base + "normal", "workers")
    assert sorted(consumer["name"] for consumer in groups) == [b"alive", b"busy"]


def test_a_cancellation_is_forgotten_after_a_day(queue: Queue) -> None:
    queue.cancel("m")
    queue.client.zincrby(queue.keys.base + "cancelled", -24 * 3_600_000, "m")
    queue.reclaim()
    queue.publish([new()])
    assert drain(queue) == ["m"]


def test_nonsense_about_the_last_look_is_overwritten(queue: Queue) -> None:
    queue.client.hset(queue.keys.record, mapping={"looked": "often", "watched": "-"})
    assert queue.watch() == 0
    looked, watched = queue.client.hmget(queue.keys.record, ["looked", "watched"])
    assert looked == watched and int(looked or 0) > 0


def test_the_broker_says_what_became_of_a_message_whose_consumer_died(queue: Queue) -> None:
    queue.declare(policy(deadLetter={"maxDeliveries": 2}))
    first, neighbour = (one(queue, id_) for id_ in ("poison", "neighbour"))

    assert queue.charge("w", first.lease) == "ready"
    assert queue.charge("w", first.lease) == "lost"
    queue.abandon("w", running=[])
    assert queue.charge("w", neighbour.lease) == "lost"

    (again,) = claim(queue, 10)  # a suspect comes alone
    assert (again.id, again.lost) == ("poison", 1)
    assert queue.charge("w", again.lease) == "dead"
    (letter,) = queue.dead()
    assert (letter.id, letter.reason, letter.delivery) == ("poison", "delivery_limit", 2)
    assert [line["reason"] for line in letter.history] == ["worker_lost"] * 2
    assert [(it.id, it.lost) for it in claim(queue, 10)] == [("neighbour", 0)]
    assert queue.stats().imbalance == 0


@pytest.mark.parametrize("most", [1, 3])
def test_a_delivery_that_is_the_last_is_told_as_such(queue: Queue, most: int) -> None:
    queue.declare(policy(deadLetter={"maxDeliveries": most}))
    queue.publish([new("m")])
    told = []
    for _ in range(most):
        (message,) = claim(queue, 1)
        told.append(message.last)
        settle(queue, [message], RetryAt(delay_ms=0))
    assert told == [False] * (most - 1) + [True]
