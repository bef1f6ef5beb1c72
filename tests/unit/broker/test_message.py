"""Values that travel: what a line of history holds, and what statistics add up to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celeriac.broker.message import (
    DeadMessage,
    Failure,
    Histogram,
    Message,
    NewMessage,
    QueueStats,
    is_entry,
)
from celeriac.broker.stats import dead_message
from celeriac.broker.wire import chunks


def stats(**fields: Any) -> QueueStats:
    empty = Histogram((1,), (0, 0), 0)
    numbers = ["now_ms", "accepted", "done", "discarded", "purged", "retried", "redelivered"]
    numbers += ["redriven", "dead", "dead_total", "leased", "delayed", "due", "oldest_ready_ms"]
    rest: dict[str, Any] = {
        "name": "q",
        "discarded_by": {},
        "ready_by": {},
        "declared": True,
        "paused": False,
        "version": 1,
        "workers": [],
        "wait": empty,
        "run": empty,
    }
    return QueueStats(**dict.fromkeys(numbers, 0) | rest | fields)


def test_a_line_of_history_holds_what_is_known_and_no_more() -> None:
    failure = Failure(reason="error", error="KeyError", message="'x'", worker="w", ended_ms=7)
    assert json.loads(failure.line(attempt=1, delivery=2)) == {
        "reason": "error",
        "error": "KeyError",
        "message": "'x'",
        "worker": "w",
        "startedMs": 0,
        "endedMs": 7,
        "attempt": 1,
        "delivery": 2,
    }


def test_a_line_is_one_line_and_its_message_is_cut() -> None:
    line = Failure(reason="error", message="first\nsecond\r\n" + "x" * 5000).line(
        attempt=1, delivery=1
    )
    assert len(line.splitlines()) == 1
    assert len(json.loads(line)["message"]) == 500


@pytest.mark.parametrize("text", ["\ud800", "\0", "é🥬", "\u2028"])
def test_any_text_survives_in_a_line(text: str) -> None:
    assert json.loads(Failure(reason=text).line(attempt=1, delivery=1))["reason"] == text


def test_a_dead_letter_shows_its_newest_error() -> None:
    lines: list[dict[str, Any]] = [
        {"reason": "worker_lost"},
        {"reason": "error", "error": "KeyError", "message": "newer"},
        {"reason": "error", "error": "ValueError", "message": "older"},
    ]
    letter = DeadMessage(
        entry="1-1",
        id="m",
        task="t",
        priority="low",
        enqueued_ms=0,
        dead_ms=0,
        attempt=2,
        delivery=3,
        reason="x",
        history=lines,
    )
    assert (letter.error, letter.message) == ("KeyError", "newer")
    bare = dead_message(b"5-1", [], 0)
    assert (bare.error, bare.message, bare.dead_ms, bare.priority) == ("", "", 5, "normal")


def test_the_stream_tells_whether_a_message_runs_alone() -> None:
    empty: list[Any] = ["id", "t", b"", b"", "low", 0, 0, 0, 1, 0, 0, b""]
    assert Message("i5-1", *empty).isolated
    assert not Message("l5-1", *empty).isolated


def test_nothing_lost_and_nothing_doubled_is_balance_zero() -> None:
    where = {"done": 1, "discarded": 2, "purged": 3, "dead": 4, "leased": 5, "delayed": 6}
    balanced = stats(accepted=31, ready_by={"high": 7, "isolated": 3}, **where)
    assert (balanced.ready, balanced.unfinished, balanced.imbalance) == (10, 21, 0)
    assert stats(accepted=2, done=1).imbalance == 1
    assert stats(accepted=1, done=2).imbalance == -1
    # What was retried, redelivered or redriven is still one message.
    assert stats(retried=5, redelivered=6, redriven=7, dead_total=8, due=9).imbalance == 0


def message(size: int) -> NewMessage:
    return NewMessage(id="m", task="t", body=b"x" * size)


def test_chunks_are_bounded_in_number_and_bytes_and_lose_nothing() -> None:
    sizes = [1] * 1200 + [600_000, 600_000, 5_000_000, 1, 1]
    made = [[len(new.body) for new in part] for part in chunks([message(s) for s in sizes])]
    assert [size for chunk in made for size in chunk] == sizes
    assert [len(chunk) for chunk in made] == [500, 500, 201, 1, 1, 2]
    assert list(chunks([])) == []


@pytest.mark.parametrize(
    ("name", "entry"), [("1-1", True), ("17-0", True), ("17", False), ("a-1", False), ("1-", False)]
)
def test_entries_are_told_from_message_ids(name: str, entry: bool) -> None:
    assert is_entry(name) is entry
