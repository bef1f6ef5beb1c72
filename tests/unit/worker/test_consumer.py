"""A consumer on a queue that answers what the test says: what it claims, keeps, gives back and believes."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import redis

from celeriac.broker.message import Claim
from celeriac.broker.queue import QueueNotDeclared, RecordDamaged
from celeriac.spec.policies import QueuePolicy, RetryPolicy
from celeriac.worker.consumer import LONGEST_WAIT_S, WHEN_WOKEN, Consumer
from celeriac.worker.prefetch import Prefetch
from celeriac.worker.settler import SETTLE_MESSAGES
from tests.unit.worker.scripted import (
    LEASE_S,
    NOTHING,
    ManualMachine,
    ScriptedQueue,
    Stopper,
    claim_of,
    consumer_of,
    done,
    message,
    taken,
)

AWAY = redis.ConnectionError("away")
OTHER = QueuePolicy(retry=RetryPolicy(max_attempts=7))


@pytest.fixture
def machine() -> ManualMachine:
    return ManualMachine()


def holding(
    *numbers: int, machine: ManualMachine | None = None, slots: int = 3, **answers: Any
) -> tuple[ScriptedQueue, Consumer]:
    """A consumer that has claimed messages of these numbers."""
    queue = ScriptedQueue(**{"claim": [claim_of(*numbers)], **answers})
    consumer = consumer_of(queue, slots=slots, machine=machine)
    assert consumer.claim()
    queue.asked.clear()
    return queue, consumer


def begun(consumer: Consumer) -> Any:
    it = taken(consumer)
    assert consumer.begin(it)
    return it


# --- claiming -------------------------------------------------------------------------------------------


def test_it_claims_as_many_as_it_has_room_for_and_hands_them_out() -> None:
    queue = ScriptedQueue(claim=[claim_of(1, 2)])
    consumer = consumer_of(queue, slots=3)
    assert consumer.claim()
    assert queue.told("claim") == [(3, 0)]
    assert (taken(consumer), consumer.held) == (message(1), 2)
    queue.answers["claim"] = [claim_of(3)]
    assert consumer.claim()
    assert queue.told("claim") == [(3, 0), (1, 2)]


def test_what_runs_and_what_waits_to_go_back_takes_room_what_is_to_be_settled_does_not() -> None:
    queue, consumer = holding(1, 2, 3)
    assert not consumer.claim() and not queue.told("claim"), "it is full"
    it = begun(consumer)
    assert not consumer.claim()
    consumer.prefetch.observe(10.0)  # no short tasks: nothing beyond the slots
    consumer.note_end(done(it))
    assert consumer.held == 3
    consumer.claim()
    assert queue.told("claim") == [(1, 3)]


def test_outcomes_that_cannot_be_settled_take_room() -> None:
    queue = ScriptedQueue(settle=AWAY)
    consumer = consumer_of(queue)
    consumer.prefetch = Prefetch(1)
    for number in range(SETTLE_MESSAGES + 1):
        consumer.settler.add(done(message(number)), 0, 0)
    assert not consumer.claim()
    assert not queue.told("claim")


def test_before_its_first_claim_it_takes_back_what_its_name_held() -> None:
    queue = ScriptedQueue(abandon=[AWAY, 2])
    consumer = consumer_of(queue)
    assert not consumer.claim()
    assert [it for it, _ in queue.asked] == ["abandon"]
    consumer.claim()
    assert [it for it, _ in queue.asked][1:3] == ["abandon", "claim"]
    assert queue.told("abandon") == [("w", None)] * 2
    consumer.claim()
    assert len(queue.told("abandon")) == 2, "once it is alone, it stays alone"


def test_with_nothing_there_it_sleeps_on_the_server_and_takes_what_wakes_it() -> None:
    queue = ScriptedQueue(claim_when_woken=[claim_of(1)])
    consumer = consumer_of(queue, slots=3)
    assert consumer.claim()
    assert queue.told("claim_when_woken") == [(1, 0, LONGEST_WAIT_S)]
    assert taken(consumer) == message(1)
    consumer.claim()
    assert len(queue.told("claim")) == 2, "the rest is for a claim"


def test_who_wakes_up_for_nothing_sleeps_again_at_once() -> None:
    queue = ScriptedQueue()
    consumer = consumer_of(queue)
    assert not consumer.claim() and not consumer.claim()
    assert [len(queue.told(it)) for it in ("claim", "claim_when_woken")] == [1, 2]


@pytest.mark.parametrize(
    ("due_ms", "sleeps_s"), [(-1, LONGEST_WAIT_S), (400, 0.4), (0, 0.0), (60_000, LONGEST_WAIT_S)]
)
def test_it_sleeps_until_the_next_message_is_due(due_ms: int, sleeps_s: float) -> None:
    queue = ScriptedQueue(claim=[Claim([], 0, next_due_ms=due_ms)])
    consumer_of(queue).claim()
    assert queue.told("claim_when_woken") == [(WHEN_WOKEN, 0, sleeps_s)]


def test_an_idle_worker_asks_seldom_and_notices_soon_that_it_is_to_close() -> None:
    assert 0.5 < LONGEST_WAIT_S < 2


def test_it_does_not_sleep_when_there_may_be_more_nor_when_it_closes() -> None:
    queue = ScriptedQueue(claim=[Claim([], 0, again=True), NOTHING])
    consumer = consumer_of(queue)
    assert consumer.claim()
    consumer.closing.set()
    assert not consumer.claim()
    assert not queue.told("claim_when_woken")


def test_the_broker_may_be_away_while_it_sleeps() -> None:
    queue = ScriptedQueue(claim_when_woken=[AWAY], claim=[NOTHING, claim_of(1)])
    consumer = consumer_of(queue)
    assert not consumer.claim()
    assert consumer.claim()
    assert [it for it, _ in queue.asked][-2:] == ["take_back_unheard", "claim"]


def test_an_isolated_message_runs_alone(caplog: pytest.LogCaptureFixture) -> None:
    alone = Claim([message(1, lease="i1-0", lost=2)], 0)
    queue = ScriptedQueue(claim=[alone, claim_of(2)])
    consumer = consumer_of(queue, slots=3)
    assert consumer.claim()
    assert "t[id-1] runs alone: 2 workers died with it" in caplog.text
    consumer.claim_ahead()
    assert not consumer.claim() and len(queue.told("claim")) == 1
    it = begun(consumer)
    assert not consumer.claim() and len(queue.told("claim")) == 1
    consumer.finish(done(it))
    assert consumer.claim() and len(queue.told("claim")) == 2
    assert not queue.told("ask_claim")
    assert consumer.claim() is False or len(queue.told("claim")) == 3


def test_two_that_may_run_together_do(caplog: pytest.LogCaptureFixture) -> None:
    _, consumer = holding(1, 2)
    assert not caplog.messages
    assert not consumer._alone


def test_who_hears_of_dropped_messages() -> None:
    heard: list[Any] = []
    queue = ScriptedQueue(claim=[Claim([], 0, again=True, dropped=[(message(1), "expired")])])
    consumer = consumer_of(queue, on_dropped=lambda *it: heard.append(it))
    consumer.claim()
    assert heard == [(message(1), "expired")]
    assert consumer.held == 0


# --- answers that are lost ------------------------------------------------------------------------------


def test_what_a_lost_answer_handed_out_is_taken_back_before_the_next_claim() -> None:
    queue, consumer = holding(1, 2)
    queue.answers["claim"] = [AWAY]
    assert not consumer.claim()
    queue.asked.clear()
    queue.answers["take_back_unheard"] = [AWAY, 1]
    queue.answers["claim"] = [claim_of(3)]
    assert not consumer.claim(), "still not sure"
    assert consumer.claim()
    assert queue.told("take_back_unheard") == [{"n": "2-0"}] * 2
    assert [it for it, _ in queue.asked] == ["take_back_unheard", "take_back_unheard", "claim"]
    queue.answers["claim"] = [claim_of(4)]
    begun(consumer)
    consumer.prefetch.observe(1e-6)
    consumer.claim()
    assert len(queue.told("take_back_unheard")) == 2, "sure again"


def test_the_distance_of_the_broker_is_learnt_from_claims_that_do_not_sleep(
    machine: ManualMachine,
) -> None:
    queue = ScriptedQueue()
    consumer = consumer_of(queue, machine=machine)

    def slow() -> Claim:
        machine.now += 0.25
        return claim_of(1)

    queue.answers["claim"] = [slow]
    consumer.claim()
    assert consumer.prefetch.trip_s == pytest.approx(0.25)


# --- claiming ahead -------------------------------------------------------------------------------------


def ahead(*numbers: int) -> tuple[ScriptedQueue, Consumer]:
    """A consumer that holds 1 and 2, and has asked for more."""
    queue, consumer = holding(1, 2, answer=[claim_of(*numbers)])
    consumer.claim_ahead()
    assert consumer.asking
    assert queue.told("ask_claim") == [(1, 2)]
    return queue, consumer


def test_the_next_claim_finds_the_answer_there() -> None:
    queue, consumer = ahead(3)
    consumer.claim_ahead()
    assert len(queue.told("ask_claim")) == 1, "one at a time"
    assert consumer.held == 2
    assert consumer.claim()
    assert (consumer.held, consumer.asking) == (3, False)
    assert not queue.told("claim")
    consumer.inflight.call_back()
    consumer.inflight.returned(list(consumer.inflight.returning))
    consumer.claim_ahead()
    assert consumer.asking, "the answer has come: it is sure of what it holds"


def test_an_empty_answer_is_no_news() -> None:
    queue, consumer = ahead()
    assert consumer.claim()
    queue.answers["claim"] = [claim_of(4)]
    assert consumer.claim()
    assert queue.told("claim") == [(1, 2)]


def test_an_answer_that_does_not_come_is_taken_back() -> None:
    queue, consumer = ahead()
    queue.answers["answer"] = [AWAY]
    assert consumer.claim()
    queue.answers["claim"] = [claim_of(4)]
    assert consumer.claim()
    assert [it for it, _ in queue.asked][-2:] == ["take_back_unheard", "claim"]


def test_a_question_that_was_cut_off_may_have_been_answered_all_the_same() -> None:
    queue, consumer = holding(1, ask_claim=[AWAY])
    consumer.claim_ahead()
    assert not consumer.asking
    consumer.claim()
    assert [it for it, _ in queue.asked][:3] == ["ask_claim", "take_back_unheard", "claim"]


def test_it_does_not_ask_ahead_without_room_nor_when_it_closes_nor_where_it_cannot() -> None:
    queue, consumer = holding(1, 2, 3)
    consumer.claim_ahead()
    assert not queue.asked, "no room"
    queue, consumer = holding(1)
    queue.asks_ahead = False
    consumer.claim_ahead()
    assert not queue.asked
    queue.asks_ahead = True
    consumer.closing.set()
    consumer.claim_ahead()
    assert not queue.asked


def test_it_does_not_ask_ahead_while_it_is_not_sure_what_it_holds() -> None:
    queue, consumer = holding(1)
    queue.answers["claim"] = [AWAY]
    consumer.claim()
    consumer.claim_ahead()
    assert not queue.told("ask_claim")


def test_what_was_asked_for_ahead_is_renewed_and_given_back_with_the_rest() -> None:
    queue, consumer = ahead(3)
    assert consumer.renew()
    assert queue.told("renew") == [("w", ["n1-0", "n2-0", "n3-0"])]
    queue, consumer = ahead(3)
    assert consumer.give_back()
    assert queue.told("release") == [(["n1-0", "n2-0", "n3-0"], False)]


def test_an_answer_that_the_claimer_is_about_to_take_is_left_to_it() -> None:
    _, consumer = ahead(3)
    with consumer._claiming:
        consumer.take_answer()
        assert consumer.asking
    consumer.take_answer()
    assert not consumer.asking
    assert consumer._claiming.acquire(blocking=False), "the lock was given back"


def test_the_lease_of_what_comes_ahead_counts_from_the_asking(machine: ManualMachine) -> None:
    queue = ScriptedQueue(claim=[claim_of(1)], answer=[claim_of(2)])
    consumer = consumer_of(queue, slots=3, machine=machine)
    consumer.claim()
    begun(consumer)
    machine.now += 1
    consumer.claim_ahead()
    machine.now += 0.9 * LEASE_S
    consumer.claim()
    assert not consumer.stale
    machine.now += 0.2 * LEASE_S
    assert consumer.stale


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


def test_leaving_charges_nothing_and_says_whether_it_was_heard() -> None:
    queue = ScriptedQueue(abandon=[AWAY, 0])
    consumer = consumer_of(queue)
    assert [consumer.leave(), consumer.leave()] == [False, True]
    assert queue.told("abandon") == [("w", [])] * 2


# --- the policy -----------------------------------------------------------------------------------------


def test_a_changed_policy_is_read_and_only_then() -> None:
    queue = ScriptedQueue(record=[(4, OTHER)], claim=[Claim([], 4, again=True)] * 2)
    consumer = consumer_of(queue)
    assert consumer.policy() == QueuePolicy()
    consumer.claim()
    assert consumer.policy() == OTHER
    consumer.claim()
    assert len(queue.told("record")) == 1


def test_a_policy_that_could_not_be_read_is_read_with_the_next_claim() -> None:
    claims = [Claim([], 4, again=True)] * 2
    queue = ScriptedQueue(record=[AWAY, (4, OTHER)], claim=claims)
    consumer = consumer_of(queue)
    consumer.claim()
    assert consumer.policy() == QueuePolicy()
    consumer.claim()
    assert consumer.policy() == OTHER
    assert consumer.read_record()


def test_a_damaged_record_leaves_the_policy_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    claims = [Claim([], 5, again=True)] * 2
    queue = ScriptedQueue(record=RecordDamaged("key"), claim=claims)
    consumer = consumer_of(queue)
    consumer._policy = OTHER
    consumer.claim()
    consumer.claim()
    assert consumer.policy() == OTHER
    assert len(queue.told("record")) == 1
    assert "the policy stays what it was" in caplog.text


def test_a_record_that_is_gone_is_written_again_as_it_was_last_known() -> None:
    queue = ScriptedQueue(claim=[QueueNotDeclared("q")])
    consumer = consumer_of(queue)
    consumer._policy = OTHER
    assert not consumer.claim()
    assert queue.told("declare") == [(OTHER, True)]


def test_when_a_claim_was_last_answered_is_known(machine: ManualMachine) -> None:
    _, consumer = holding(1, machine=machine)
    machine.now += 5
    consumer.queue.answers["claim"] = [claim_of(2)]  # type: ignore[attr-defined]
    consumer.claim()
    assert consumer.last_claim == machine.now


def test_urgent_messages_make_it_hold_less(machine: ManualMachine) -> None:
    queue, consumer = holding(1, machine=machine, slots=1)
    it = begun(consumer)
    machine.now += 0.0001
    consumer.note_end(done(it))
    calm = consumer.prefetch.capacity
    queue.answers["claim"] = [Claim([message(2, priority="high"), message(3)], 0)]
    consumer.claim()
    assert consumer.prefetch.capacity < calm


def test_what_is_taken_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    queue = ScriptedQueue(abandon=[2], claim=[AWAY], take_back_unheard=[3])
    consumer = consumer_of(queue)
    consumer.claim()
    consumer.claim()
    assert "w: 2 messages of a predecessor are ready again" in caplog.messages
    assert "w: 3 messages of a lost answer are ready again" in caplog.messages
