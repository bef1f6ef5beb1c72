"""What a consumer claims, ahead or not, and what it believes of its queue: on answers that the test gives."""

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
    begun,
    claim_of,
    consumer_of,
    done,
    holding,
    message,
    taken,
)

AWAY = redis.ConnectionError("away")
OTHER = QueuePolicy(retry=RetryPolicy(max_attempts=7))


@pytest.fixture
def machine() -> ManualMachine:
    return ManualMachine()


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
