"""A queue's whole life, for tests that ask where and as whom one can lead it."""

from __future__ import annotations

from celeriac.broker.message import DONE, DeadLetter, Discard, Failure, Outcome, RetryAt
from celeriac.broker.queue import Queue
from tests.contract.broker.handy import claim, drain, ids, new, one, pause_ms, policy, settle, some


def live(queue: Queue) -> None:
    """Lead a queue's whole life: every operation, every outcome; nothing may be miscounted."""
    queue.declare(policy(deadLetter={"maxDeliveries": 2}))
    assert queue.declare(policy(deadLetter={"maxDeliveries": 2})) == queue.record()[0]
    once = {"dedup_key": "k", "dedup_ttl_ms": 10**6}
    receipts = queue.publish(
        [
            *some(6),
            new("high", priority="high"),
            new("soon", delay_ms=15),
            new("late", delay_ms=10**7),
            new("gone", ttl_ms=1),
            new("k1", **once),
            new("k2", **once),
        ]
    )
    assert [receipt.status for receipt in receipts] == ["accepted"] * 11 + ["duplicate"]
    assert queue.wait(1)
    assert [queue.cancel("late"), queue.cancel("m5")] == ["cancelled", "requested"]
    pause_ms(20)
    queue.pause()
    assert queue.claim("w", count=5).paused
    queue.resume()
    held = claim(queue, 9)  # two of which are not handed out
    assert ids(held) == ["high", "m0", "m1", "m2", "m3", "m4", "k1"]
    outcomes: list[Outcome] = [DONE, RetryAt(delay_ms=0), Discard("d")]
    outcomes.append(DeadLetter(reason="r", failure=Failure(reason="e")))
    for message, outcome in zip(held, outcomes, strict=False):
        assert settle(queue, [message], outcome) == [True]
        assert settle(queue, [message], outcome) == [False]
    lost, kept, back = (message.lease for message in held[4:])
    assert queue.release("w", [back]) == 1
    pause_ms(210)
    assert queue.renew("w", [kept]) == set()
    assert queue.reclaim(lease_ms=200) == 1
    assert queue.renew("w", [lost]) == {lost}
    assert queue.take_back_unheard("w", {}) == 1
    claim(queue, 1, "dies")
    assert queue.abandon("dies") == 1
    queue.promote()
    assert queue.stats().imbalance == 0
    assert queue.redrive([letter.entry for letter in queue.dead()]) >= 1
    drain(queue)
    queue.publish([new("waits"), new("later", delay_ms=10**7)])
    assert queue.purge() == 2
    settle(queue, [one(queue)], DeadLetter(reason="r"))
    assert queue.purge_dead([queue.dead()[0].entry]) == 1
    settle(queue, [one(queue)], DeadLetter(reason="r"))
    assert queue.trim_dead(now_ms=queue.stats().now_ms + 10, retention_ms=0) >= 1
    stats = queue.stats()
    assert (stats.unfinished, stats.dead, stats.imbalance) == (0, 0, 0)
    assert stats.discarded_by == {"cancelled": 2, "expired": 1, "d": 1}
