"""What producers are promised."""

from __future__ import annotations

import os
import time

import pytest
import redis

from celeriac.broker.bulk_stats import queue_names
from celeriac.broker.message import Receipt
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy
from tests.conftest import RunningServer
from tests.contract.broker.dying import DyingClient
from tests.contract.broker.handy import claim, drain, ids, new, one, pause_ms, policy, settle, some


def test_a_message_comes_out_byte_for_byte_as_it_went_in(queue: Queue) -> None:
    body, head = os.urandom(5000) + b"\r\n\0", bytes(range(256))
    sent = new("ключ-🔑", task="app.tasks.añadir", body=body, head=head, priority="low")
    before = time.time() * 1000
    assert queue.publish([sent]) == [Receipt("ключ-🔑", "accepted")]
    (got,) = claim(queue)
    assert (got.id, got.task, got.body, got.head, got.priority) == (
        *("ключ-🔑", "app.tasks.añadir", body, head, "low"),
    )
    assert (got.attempt, got.delivery, got.lost, got.expires_ms, got.history) == (0, 1, 0, 0, b"")
    assert before - 2000 < got.enqueued_ms <= got.ready_ms < time.time() * 1000 + 2000


def test_a_bulk_publish_goes_in_chunks_with_exact_receipts_and_keeps_its_order(
    queue: Queue,
) -> None:
    sent = some(1201)
    sent[600] = new("m600", dedup_key="k", dedup_ttl_ms=60_000)
    sent[1100] = new("m1100", dedup_key="k", dedup_ttl_ms=60_000)
    receipts = queue.publish(sent)
    assert receipts[1100] == Receipt("m600", "duplicate")
    rest = [receipt for n, receipt in enumerate(receipts) if n != 1100]
    assert rest == [Receipt(message.id, "accepted") for n, message in enumerate(sent) if n != 1100]
    assert queue.stats().accepted == 1200
    assert drain(queue) == [message.id for n, message in enumerate(sent) if n != 1100]


def test_large_messages_are_split_by_their_size(queue: Queue) -> None:
    assert all(r.status == "accepted" for r in queue.publish(some(5, body=b"x" * 700_000)))
    assert len(drain(queue, count=2)) == 5


def test_publishing_nothing_is_nothing(queue: Queue) -> None:
    assert queue.publish([]) == []
    assert queue.stats().accepted == 0


def test_what_is_published_before_the_queue_is_declared_is_kept(
    redis_client: redis.Redis, queue_name: str
) -> None:
    queue = Queue(redis_client, queue_name)
    queue.publish([new("early"), new("later", delay_ms=3_600_000)])
    stats = queue.stats()
    assert (stats.declared, stats.ready, stats.delayed, stats.imbalance) == (False, 1, 1, 0)
    queue.declare(QueuePolicy())
    assert ids(claim(queue)) == ["early"]


def test_a_delayed_message_is_ready_when_its_time_has_come_and_not_before(queue: Queue) -> None:
    queue.publish([new(delay_ms=300)])
    early = queue.claim("w", count=1)
    assert early.messages == []
    assert 0 < early.next_due_ms <= 300
    assert (queue.stats().delayed, queue.stats().due) == (1, 0)
    pause_ms(early.next_due_ms + 2)
    assert (queue.stats().due, queue.promote(), queue.stats().ready) == (1, 1, 1)
    assert ids(claim(queue)) == ["m"]


def test_delayed_messages_come_in_the_order_in_which_they_are_due(queue: Queue) -> None:
    queue.publish(
        [new("third", delay_ms=30), new("first", delay_ms=10), new("second", delay_ms=20)]
    )
    pause_ms(35)
    assert ids(claim(queue)) == ["first", "second", "third"]


def test_one_claim_promotes_a_flood_of_due_messages_part_by_part(queue: Queue) -> None:
    queue.publish(some(300, delay_ms=1))
    pause_ms(5)
    assert len(claim(queue, 1000)) == 128
    assert queue.promote(100) == 100
    assert len(claim(queue, 1000)) == 172


def test_more_come_due_at_once_than_a_script_can_take(queue: Queue) -> None:
    queue.publish(some(5000, delay_ms=1))
    pause_ms(5)
    assert (queue.promote(10_000), queue.promote(10_000)) == (4000, 1000)
    assert queue.wait(0.01)
    stats = queue.stats()
    assert (stats.ready, stats.delayed, stats.imbalance) == (5000, 0, 0)


def test_an_expired_message_is_discarded_whether_it_was_ready_or_delayed(queue: Queue) -> None:
    queue.publish([new("a", ttl_ms=20), new("b", ttl_ms=20, delay_ms=10), new("c", ttl_ms=60_000)])
    pause_ms(25)
    (got,) = claim(queue)
    assert got.id == "c" and got.expires_ms > 0
    assert queue.stats().discarded_by == {"expired": 2}


def test_a_claim_that_found_only_expired_messages_asks_to_claim_again(queue: Queue) -> None:
    queue.publish([*some(3, ttl_ms=1), new("good")])
    pause_ms(5)
    first = queue.claim("w", count=3)
    assert (first.messages, first.again) == ([], True)
    assert [reason for _, reason in first.dropped] == ["expired"] * 3
    assert queue.wait(0.01)  # should this worker die before it does, another one is woken
    assert ids(claim(queue)) == ["good"]


def test_a_second_message_with_the_same_key_is_a_duplicate_within_its_time_only(
    queue: Queue,
) -> None:
    keyed = {"dedup_key": "order-7", "dedup_ttl_ms": 400}
    first = queue.publish([new("first", **keyed), new("second", **keyed)])
    assert first == [Receipt("first", "accepted"), Receipt("first", "duplicate")]
    drain(queue)
    assert queue.publish([new("third", **keyed)]) == [Receipt("first", "duplicate")]
    pause_ms(410)
    assert queue.publish([new("fourth", **keyed)]) == [Receipt("fourth", "accepted")]


def test_a_key_without_a_time_is_refused_and_harms_no_other(queue: Queue) -> None:
    receipts = queue.publish([new("a"), new("b", dedup_key="k"), new("c")])
    assert [receipt.status for receipt in receipts] == ["accepted", "refused", "accepted"]
    assert "dedup_ttl_ms" in receipts[1].reason
    assert (queue.stats().accepted, queue.stats().imbalance) == (2, 0)


def test_a_publisher_that_saw_no_answer_may_repeat_with_a_key(
    valkey: RunningServer, queue: Queue
) -> None:
    message = new("once", dedup_key="once", dedup_ttl_ms=60_000)
    dying = DyingClient(port=valkey.port, password=valkey.password)
    with dying, pytest.raises(redis.exceptions.ConnectionError):
        Queue(dying, queue.name).publish([message])
    assert queue.publish([message]) == [Receipt("once", "duplicate")]
    assert drain(queue) == ["once"]


def test_a_broken_bulk_publish_says_what_was_accepted_before(
    valkey: RunningServer, queue: Queue
) -> None:
    with DyingClient(port=valkey.port, password=valkey.password) as dying:
        dying.death, dying.after = "cut", 2
        with pytest.raises(redis.exceptions.ConnectionError) as caught:
            Queue(dying, queue.name).publish(some(1500))
    receipts = caught.value.receipts  # type: ignore[attr-defined]
    assert [receipt.id for receipt in receipts] == [f"m{n}" for n in range(1000)]
    assert queue.stats().accepted == 1000


def test_a_full_queue_refuses_until_there_is_room_and_leased_messages_count(queue: Queue) -> None:
    queue.declare(policy(limits={"maxMessages": 3}))
    queue.publish([new("a"), new("b", delay_ms=60_000)])
    held = claim(queue)
    receipts = queue.publish([new("c"), new("d")])
    assert receipts[0].status == "accepted"
    assert receipts[1] == Receipt("d", "refused", "queue is full: limits.maxMessages 3")
    settle(queue, held)
    assert queue.publish([new("d")])[0].status == "accepted"


@pytest.mark.parametrize("waits", ["ready", "delayed", "leased"])
def test_one_message_obeys_the_limits_as_many_do(queue: Queue, waits: str) -> None:
    queue.declare(policy(limits={"maxMessages": 1, "maxMessageBytes": 1024}))
    (large,) = queue.publish([new("large", body=bytes(1025))])
    assert (large.status, large.reason[:29]) == ("refused", "message of 1025 bytes is over")
    queue.publish([new("first", delay_ms=60_000 if waits == "delayed" else 0)])
    if waits == "leased":
        assert len(claim(queue)) == 1
    (second,) = queue.publish([new("second")])
    assert second == Receipt("second", "refused", "queue is full: limits.maxMessages 1")
    stats = queue.stats()
    assert (stats.accepted, stats.imbalance) == (1, 0)


def test_a_message_that_is_too_large_is_refused_alone(queue: Queue) -> None:
    queue.declare(policy(limits={"maxMessageBytes": 1024}))
    fits, large = new("fits", body=b"x" * 1000, head=b"h" * 24), new("large", body=b"x" * 1025)
    receipts = queue.publish([large, fits, large])
    assert [receipt.status for receipt in receipts] == ["refused", "accepted", "refused"]
    assert receipts[0].reason == "message of 1025 bytes is over limits.maxMessageBytes 1024"
    assert (queue.stats().accepted, queue.stats().imbalance) == (1, 0)


def test_a_refused_message_does_not_take_the_dedup_key(queue: Queue) -> None:
    queue.declare(policy(limits={"maxMessages": 1}))
    queue.publish([new("a")])
    keyed = new("b", dedup_key="k", dedup_ttl_ms=60_000)
    assert queue.publish([keyed])[0].status == "refused"
    drain(queue)
    assert queue.publish([keyed])[0].status == "accepted"


def test_queues_are_listed_when_declared_or_published_to(
    redis_client: redis.Redis, queue_name: str
) -> None:
    prefix = f"p-{queue_name}"
    Queue(redis_client, "declared", prefix=prefix).declare(QueuePolicy())
    Queue(redis_client, "published", prefix=prefix).publish([new()])
    Queue(redis_client, "looked-at", prefix=prefix).stats()
    assert queue_names(redis_client, prefix=prefix) == ["declared", "published"]


def test_a_waiting_message_can_be_cancelled_and_a_running_one_cannot(queue: Queue) -> None:
    running = one(queue, "running")
    queue.publish([new("ready"), new("delayed", delay_ms=60_000)])
    assert queue.cancel("delayed") == "cancelled"
    assert queue.stats().delayed == 0
    assert queue.cancel("ready") == "requested"
    assert queue.cancel("running") == "requested"
    assert claim(queue) == []
    assert settle(queue, [running]) == [True]
    assert queue.stats().discarded_by == {"cancelled": 2}


def test_cancelling_finds_the_copies_of_a_repeated_publish_and_nothing_else(queue: Queue) -> None:
    later = {"delay_ms": 300}
    queue.publish([new("a", **later), new("a", **later), new("a#1", **later), new("b", **later)])
    assert queue.cancel("a") == "cancelled"
    assert (queue.stats().delayed, queue.stats().discarded, queue.stats().imbalance) == (2, 2, 0)
    pause_ms(305)
    assert sorted(drain(queue)) == ["a#1", "b"]


def test_cancelling_does_not_take_one_messages_copy_for_another_message(queue: Queue) -> None:
    queue.publish(some(1, delay_ms=60_000) * 2)
    assert queue.cancel("m0#1") == "requested"
    assert queue.stats().delayed == 2


@pytest.mark.slow
def test_fifty_thousand_messages_go_in_and_out_with_nothing_lost_or_doubled(queue: Queue) -> None:
    receipts = queue.publish(some(50_000, body=b"x" * 100))
    assert all(receipt.status == "accepted" for receipt in receipts)
    assert drain(queue) == [f"m{number}" for number in range(50_000)]
    stats = queue.stats()
    assert (stats.accepted, stats.done, stats.unfinished, stats.imbalance) == (50_000, 50_000, 0, 0)
