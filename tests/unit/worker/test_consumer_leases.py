"""What a consumer holds: its leases, the ends of its messages, and how it gives them back."""

from __future__ import annotations

import threading

import pytest
import redis

from tests.unit.worker.scripted import (
    LEASE_S,
    ManualMachine,
    ScriptedQueue,
    Stopper,
    begun,
    consumer_of,
    done,
    holding,
    message,
    taken,
)

AWAY = redis.ConnectionError("away")


@pytest.fixture
def machine() -> ManualMachine:
    return ManualMachine()


# --- leases ---------------------------------------------------------------------------------------------


def test_all_that_is_held_is_renewed() -> None:
    queue, consumer = holding(1, 2, 3, 4, 5, slots=9)
    ended, runs, back = begun(consumer), begun(consumer), taken(consumer)
    consumer.note_end(done(ended))
    consumer.inflight.begin(back, 1000, ours=False)
    assert consumer.renew()
    ((name, leases),) = queue.told("renew")
    assert name == "w"
    assert set(leases) == {it.lease for it in (ended, runs, back)} | {"n4-0", "n5-0"}


def test_who_holds_nothing_renews_nothing() -> None:
    queue = ScriptedQueue()
    assert consumer_of(queue).renew()
    assert not queue.asked


def test_a_renewal_without_an_answer_has_failed() -> None:
    _, consumer = holding(1, renew=AWAY)
    assert not consumer.renew()


def test_what_has_waited_for_a_whole_lease_is_renewed_before_it_starts(
    machine: ManualMachine,
) -> None:
    queue, consumer = holding(1, 2, machine=machine)
    machine.now += 0.9 * LEASE_S
    assert not consumer.stale
    begun(consumer)
    assert not queue.asked
    machine.now += 0.2 * LEASE_S
    assert consumer.stale
    begun(consumer)
    assert queue.told("renew") == [("w", ["n1-0", "n2-0"])]
    assert not consumer.stale


def test_what_was_lost_meanwhile_does_not_start(machine: ManualMachine) -> None:
    _, consumer = holding(1, machine=machine, renew=[{"n1-0"}])
    machine.now += LEASE_S + 1
    assert not consumer.begin(taken(consumer))
    assert (consumer.inflight.running, consumer.held) == ({}, 0)


def test_what_cannot_be_renewed_does_not_start_and_goes_back(machine: ManualMachine) -> None:
    queue, consumer = holding(1, machine=machine, renew=[AWAY])
    machine.now += LEASE_S + 1
    assert not consumer.begin(taken(consumer))
    assert consumer.held == 1
    assert consumer.give_back()
    assert queue.told("release") == [(["n1-0"], False)]
    assert consumer.held == 0


def test_a_renewal_that_took_longer_than_a_lease_is_worth_nothing(machine: ManualMachine) -> None:
    _, consumer = holding(1, machine=machine)

    def slow() -> set[str]:
        machine.now += LEASE_S + 1
        return set()

    consumer.queue.answers["renew"] = [slow]  # type: ignore[attr-defined]
    machine.now += LEASE_S + 1
    assert not consumer.begin(taken(consumer))
    assert consumer.inflight.returning


def test_what_runs_and_is_lost_is_stopped() -> None:
    _, consumer = holding(1, renew=[{"n1-0"}])
    consumer.inflight.stop_taken = stopper = Stopper()
    it = begun(consumer)
    consumer.renew()
    assert stopper.stopped == [it]


def test_when_a_message_started_is_known_to_the_keeper(machine: ManualMachine) -> None:
    _, consumer = holding(1, machine=machine)
    machine.now += 2
    it = begun(consumer)
    assert consumer.inflight.last_take == machine.now
    assert consumer.inflight.running[it.lease] == (it, machine.now)


@pytest.mark.parametrize(("connected_s", "reclaims"), [(0.5, False), (1.5, True)])
def test_others_leases_are_reclaimed_only_after_a_whole_lease_with_the_broker(
    machine: ManualMachine, connected_s: float, reclaims: bool
) -> None:
    queue, consumer = holding(1, machine=machine)
    machine.now += connected_s * LEASE_S
    consumer.reclaim()
    assert queue.told("watch") == [reclaims]


def test_others_leases_are_left_alone_while_the_broker_is_away(machine: ManualMachine) -> None:
    queue, consumer = holding(1, machine=machine, renew=[AWAY])
    machine.now += 2 * LEASE_S
    consumer.renew()
    consumer.reclaim()
    assert queue.told("watch") == [False]


# --- the end of a message -------------------------------------------------------------------------------


def test_the_last_one_is_settled_at_once() -> None:
    queue, consumer = holding(1, 2)
    first, second = begun(consumer), taken(consumer)
    consumer.inflight.waiting.put(second)
    consumer.finish(done(first))
    assert not queue.told("settle"), "another one waits to run"
    second = begun(consumer)
    consumer.finish(done(second))
    assert [[it.message for it in batch] for batch in queue.told("settle")] == [[first, second]]
    assert (consumer.held, consumer.settler.count) == (0, 2)


def test_while_others_wait_it_is_settled_after_a_moment(machine: ManualMachine) -> None:
    queue, consumer = holding(1, 2, 3, machine=machine)
    consumer.finish(done(begun(consumer)))
    assert not consumer.settle_is_due(machine.now)
    machine.now += 1
    assert consumer.settle_is_due(machine.now)
    consumer.finish(done(begun(consumer)))
    assert len(queue.told("settle")) == 1


def test_a_broker_far_away_is_asked_once_a_trip(machine: ManualMachine) -> None:
    _, consumer = holding(1, machine=machine)
    consumer.prefetch.trip_s = 0.5
    assert not consumer.note_end(done(begun(consumer)))
    assert not consumer.settle_is_due(machine.now + 0.4)
    assert consumer.settle_is_due(machine.now + 0.6)


def test_how_long_it_ran_decides_how_much_is_claimed(machine: ManualMachine) -> None:
    _, consumer = holding(1, machine=machine, slots=2)
    it = begun(consumer)
    machine.now += 1 / 256  # which a float holds exactly
    consumer.note_end(done(it))
    assert consumer.prefetch.capacity == 2 + 10, "two slots, and what they start within 20 ms"
    other = message(9)
    consumer.note_end(done(other))
    assert consumer.prefetch.capacity == 2 + 10, "it did not run: nothing is known of it"


# --- giving back ----------------------------------------------------------------------------------------


def test_what_has_not_started_is_given_back_free_of_charge() -> None:
    queue, consumer = holding(1, 2, 3)
    begun(consumer)
    assert consumer.give_back()
    assert queue.told("release") == [(["n2-0", "n3-0"], False)]
    assert (consumer.held, consumer.inflight.waiting.empty()) == (1, True)
    assert consumer.give_back() and len(queue.told("release")) == 1, "nothing is left"


def test_what_could_not_be_given_back_stays_ours_and_does_not_start() -> None:
    queue, consumer = holding(1, 2, release=[AWAY])
    assert not consumer.give_back()
    assert (consumer.held, consumer.inflight.waiting.empty()) == (2, True)
    consumer.renew()
    assert queue.told("renew") == [("w", ["n1-0", "n2-0"])]
    assert consumer.give_back()
    assert queue.told("release") == [(["n1-0", "n2-0"], False)] * 2
    assert consumer.held == 0


def test_at_the_very_end_everything_goes_back() -> None:
    queue, consumer = holding(1, 2, 3)
    ended, _ = begun(consumer), begun(consumer)
    consumer.note_end(done(ended))
    consumer.give_back_all()
    assert queue.asked == [
        ("settle", [done(ended)]),
        ("release", (["n3-0"], False)),
        ("release", (["n2-0"], False)),
        ("abandon", ("w", [])),
    ]


def test_the_very_end_waits_for_another_thread_that_settles() -> None:
    queue, consumer = holding(1)
    consumer.note_end(done(begun(consumer)))
    consumer.settler._settling.acquire()
    threading.Timer(0.05, consumer.settler._settling.release).start()
    consumer.give_back_all()
    assert [name for name, _ in queue.asked] == ["settle", "abandon"]


def test_leaving_charges_nothing_and_says_whether_it_was_heard() -> None:
    queue = ScriptedQueue(abandon=[AWAY, 0])
    consumer = consumer_of(queue)
    assert [consumer.leave(), consumer.leave()] == [False, True]
    assert queue.told("abandon") == [("w", [])] * 2
