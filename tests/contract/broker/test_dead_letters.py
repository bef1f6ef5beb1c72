"""Messages that were given up: kept, listed, moved back or deleted, never in between."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.broker.message import DeadLetter, Failure, RetryAt
from celeriac.broker.queue import Queue
from tests.contract.broker.handy import claim, drain, ids, one, pause_ms, policy, settle, some

GIVEN_UP = DeadLetter(reason="attempts_exhausted", failure=Failure(reason="error", error="E"))


def bury(queue: Queue, count: int = 1, name: str = "m", **fields: str) -> list[str]:
    """Make dead letters; return their entries, oldest first."""
    queue.publish(some(count, name, **fields))
    settle(queue, claim(queue, count), GIVEN_UP)
    return [letter.entry for letter in reversed(queue.dead(count=count))]


def test_a_dead_letter_tells_what_why_and_when(queue: Queue) -> None:
    message = one(queue, priority="low", head=b"h", body=b"b")
    first = Failure(reason="timeout", error="SoftTimeLimitExceeded", started_ms=5, ended_ms=9)
    settle(queue, [message], RetryAt(delay_ms=0, failure=first))
    (message,) = claim(queue)
    last = Failure(
        reason="error", error="KeyError", message="'x'", digest="0123456789ab", worker="w1"
    )
    settle(queue, [message], DeadLetter(reason="attempts_exhausted", failure=last))
    (letter,) = queue.dead()
    assert (letter.id, letter.task, letter.priority, letter.head, letter.body) == (
        *("m", "t", "low", b"h", b"b"),
    )
    assert (letter.reason, letter.error, letter.message) == (
        "attempts_exhausted",
        "KeyError",
        "'x'",
    )
    assert (letter.attempt, letter.delivery) == (2, 2)
    assert message.enqueued_ms == letter.enqueued_ms <= letter.dead_ms
    assert [line["reason"] for line in letter.history] == ["error", "timeout"]
    assert letter.history[0]["digest"] == "0123456789ab"
    assert (letter.history[1]["startedMs"], letter.history[1]["endedMs"]) == (5, 9)


def test_pages_go_from_the_newest_to_the_oldest(queue: Queue) -> None:
    bury(queue, 25)
    pages = [queue.dead(count=10)]
    while pages[-1]:
        pages.append(queue.dead(before=pages[-1][-1].entry, count=10))
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert [letter.id for page in pages for letter in page] == [f"m{24 - n}" for n in range(25)]
    assert [letter.id for letter in queue.dead_letters()] == [f"m{24 - n}" for n in range(25)]
    assert [x.id for x in queue.dead_letters(id="m3")] == ["m3"]


def test_a_search_finds_what_it_names_and_what_nobody_can_read(queue: Queue) -> None:
    bury(queue, 3, "a")
    bury(queue, 2, "b", task="app.Mail")
    refused = Failure(reason="rejected", error="smtplib.Refused")
    settle(queue, [one(queue, "c")], DeadLetter(reason="rejected", failure=refused))
    queue.client.xadd(queue.keys.dead, {"some": "thing"})
    sought: dict[str, dict[str, Any]] = {
        "all": {},
        "task": {"task": "MAIL"},
        "reason": {"reason": "exhausted", "task": "mail"},
        "error": {"error": "SMTPlib.refused"},
        "nothing": {"error": "nothing"},
        "id": {"id": "a1"},
    }
    found = {
        name: [letter.id for letter in queue.search_dead(**texts).letters]
        for name, texts in sought.items()
    }
    assert found == {
        "all": ["", "c", "b1", "b0", "a2", "a1", "a0"],
        "task": ["", "b1", "b0"],
        "reason": ["", "b1", "b0"],
        "error": ["", "c"],
        "nothing": [""],
        "id": ["", "a1"],
    }


def test_a_search_goes_on_where_its_page_ended(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac.broker.queue._SEARCHED_AT_ONCE", 150)
    monkeypatch.setattr("celeriac.broker.queue._SEARCHED_A_PAGE", 300)
    bury(queue, 1, "old", task="rare")
    bury(queue, 500)
    bury(queue, 1, "late", task="rare")
    first = queue.search_dead(task="rare")
    assert [letter.id for letter in first.letters] == ["late0"]
    second = queue.search_dead(task="rare", before=first.before)
    assert ([letter.id for letter in second.letters], second.before) == (["old0"], "")
    full = queue.search_dead(task="rare", count=1)
    assert full.before == full.letters[0].entry
    assert [letter.id for letter in queue.dead_letters(task="rare")] == ["late0", "old0"]


def test_a_dead_letter_is_found_by_entry_and_by_message_id(queue: Queue) -> None:
    entries = bury(queue, 3)
    for name in ("m1", entries[1]):
        letter = queue.dead_letter(name)
        assert letter is not None and (letter.id, letter.entry) == ("m1", entries[1])
    assert queue.dead_letter("nobody") is None
    assert queue.dead_letter("1-1") is None


def test_a_redriven_message_starts_afresh_and_keeps_its_history(queue: Queue) -> None:
    (entry,) = bury(queue, 1, priority="high")
    assert queue.redrive([entry]) == 1
    (message,) = claim(queue)
    assert (message.id, message.priority, message.attempt, message.delivery, message.lost) == (
        *("m0", "high", 0, 1, 0),
    )
    settle(queue, [message], GIVEN_UP)
    (letter,) = queue.dead()
    assert [line["reason"] for line in letter.history] == ["error", "redriven", "error"]
    assert letter.history[1]["deadReason"] == "attempts_exhausted"
    assert (queue.stats().redriven, queue.stats().dead_total, queue.stats().imbalance) == (1, 2, 0)


def test_a_redriven_message_does_not_expire_at_once_nor_stay_under_suspicion(queue: Queue) -> None:
    queue.declare(policy(deadLetter={"maxDeliveries": 1}))
    one(queue, ttl_ms=300)
    queue.abandon("w")
    pause_ms(305)
    queue.redrive([letter.entry for letter in queue.dead()])
    (message,) = claim(queue)
    assert (message.isolated, message.lost, message.expires_ms) == (False, 0, 0)


def test_a_redrive_comes_before_a_cancellation_that_was_asked_for_earlier(queue: Queue) -> None:
    queue.publish(some(1))
    running = claim(queue)
    queue.cancel("m0")  # too late: it runs already
    settle(queue, running, GIVEN_UP)
    assert queue.redrive([queue.dead()[0].entry]) == 1
    assert ids(claim(queue)) == ["m0"]


def test_redriving_twice_moves_once(queue: Queue) -> None:
    entries = bury(queue, 250)
    assert queue.redrive(entries[:150]) == 150
    assert queue.redrive(entries + entries[:5]) == 100
    assert sorted(drain(queue)) == sorted(f"m{n}" for n in range(250))
    assert (queue.stats().redriven, queue.stats().imbalance) == (250, 0)


def test_entries_that_are_none_are_skipped_and_nothing_is_miscounted(queue: Queue) -> None:
    entries = bury(queue, 2)
    assert queue.redrive(["1-1", "", "nonsense", entries[0]]) == 1
    assert queue.purge_dead([]) == queue.redrive([]) == 0
    with pytest.raises(Exception, match=r"[Ii]nvalid stream ID"):
        queue.purge_dead([entries[1], "nonsense"])
    assert (queue.stats().dead, queue.stats().imbalance) == (1, 0)
    assert queue.purge_dead([entries[1], entries[1], "1-1"]) == 1
    assert (queue.stats().purged, queue.stats().imbalance) == (1, 0)


def test_above_the_limit_the_oldest_are_purged_and_counted(queue: Queue) -> None:
    queue.declare(policy(deadLetter={"maxMessages": 3}))
    bury(queue, 5)
    assert [letter.id for letter in queue.dead()] == ["m4", "m3", "m2"]
    stats = queue.stats()
    assert (stats.dead, stats.dead_total, stats.purged, stats.imbalance) == (3, 5, 2, 0)


def test_the_retention_time_purges_what_is_older(queue: Queue) -> None:
    bury(queue, 3, "old")
    pause_ms(3)
    bury(queue, 2, "young")
    youngest = queue.dead()[1].dead_ms
    assert queue.trim_dead(now_ms=youngest + 60_000, retention_ms=60_000) == 3
    assert queue.trim_dead(now_ms=5, retention_ms=60_000) == 0
    assert [letter.id for letter in queue.dead()] == ["young1", "young0"]
    assert (queue.stats().purged, queue.stats().imbalance) == (3, 0)


def test_purging_deletes_what_waits_and_nothing_else(queue: Queue) -> None:
    bury(queue, 2, "dead")
    queue.publish([*some(700), *some(2, "h", priority="high"), *some(600, "d", delay_ms=60_000)])
    held = claim(queue, 5)
    assert queue.purge(delayed=False) == 697
    assert queue.purge(ready=False) == 600
    assert queue.purge() == 0
    assert settle(queue, held) == [True] * 5
    stats = queue.stats()
    assert (stats.purged, stats.done, stats.dead, stats.unfinished) == (1297, 5, 2, 0)
    assert stats.imbalance == 0


def test_what_somebody_put_among_the_dead_letters_breaks_no_listing_and_is_not_lost(
    queue: Queue,
) -> None:
    entries = bury(queue)
    dead = queue.keys.dead
    fields = {"p": "?", "i": b"\xff", "q": "x", "y": "no json\n[1]\n", "r": "odd"}
    foreign: list[Any] = [
        queue.client.xadd(dead, {"some": "thing"}),
        queue.client.xadd(dead, fields),  # type: ignore[arg-type]
    ]
    letters = queue.dead()
    assert [letter.id for letter in letters] == ["\ufffd", "", "m0"]
    assert [line["reason"] for line in letters[0].history] == ["unreadable", "unreadable"]
    assert queue.redrive([entry.decode() for entry in foreign] + entries) == 1
    assert [letter.reason for letter in queue.dead()] == ["odd", ""]
    assert ids(claim(queue)) == ["m0"]
