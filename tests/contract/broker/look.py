"""What lies on the broker, read key by key, and whether a model agrees with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import redis

from celeriac.broker.message import DeadMessage
from celeriac.broker.queue import Queue
from tests.contract.broker.model import Model
from tests.contract.broker.model_state import MINUTE_MS, Copy

STREAMS = {"h": "high", "n": "normal", "l": "low", "i": "isolated"}
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that is there. Streams are lists of (entry, fields), oldest first."""

    ready: dict[str, list[tuple[str, dict[bytes, bytes]]]]
    leased: dict[str, list[tuple[str, dict[bytes, bytes]]]]
    consumers: dict[str, str]
    """Who holds a lease."""
    delayed: list[str]
    bodies: set[str]
    cancelled: set[str]
    wake_tokens: int


def look(queue: Queue) -> Seen:
    """Read it all, in one round trip."""
    pipeline = queue.client.pipeline(transaction=True)
    base = queue.keys.base
    for name in STREAMS.values():
        pipeline.xrange(base + name)
        pipeline.xpending_range(base + name, "workers", "-", "+", 10_000)
    pipeline.zrange(base + "delayed", 0, -1)
    pipeline.hkeys(base + "bodies")
    pipeline.zrange(base + "cancelled", 0, -1)
    pipeline.llen(base + "wake")
    answers = pipeline.execute()
    seen = Seen(
        {},
        {},
        {},
        [member.decode() for member in answers[8]],
        {member.decode() for member in answers[9]},
        {member.decode() for member in answers[10]},
        answers[11],
    )
    for number, letter in enumerate(STREAMS):
        rows = [(entry.decode(), fields) for entry, fields in answers[2 * number]]
        pending = answers[2 * number + 1]
        holders = {row["message_id"].decode(): row["consumer"].decode() for row in pending}
        seen.ready[letter] = [row for row in rows if row[0] not in holders]
        seen.leased[letter] = [row for row in rows if row[0] in holders]
        assert len(seen.leased[letter]) == len(holders), "a lease on a message that is not there"
        seen.consumers.update({letter + entry: name for entry, name in holders.items()})
    return seen


def agree(model: Model, queue: Queue, *, page: int = 100) -> Seen:
    """Compare all there is with the model, which learns the names of entries on the way."""
    seen = look(queue)
    for letter in STREAMS:
        _match(model.ready[letter], seen.ready[letter])
        leased = [copy for copy in model.leased if copy.stream == letter]
        leased.sort(key=lambda copy: copy.place)
        _match(leased, seen.leased[letter])
    holders = {copy.stream + copy.entry: held.consumer for copy, held in model.leased.items()}
    assert seen.consumers == holders
    assert seen.delayed == [copy.member for copy in model.delayed]
    assert seen.bodies == set(seen.delayed)
    assert seen.cancelled == set(model.cancelled)
    _match_dead(model.dead, queue, page)
    _match_stats(model, queue)
    return seen


def _match(copies: list[Copy], rows: list[tuple[str, dict[bytes, bytes]]]) -> None:
    assert [_row(copy) for copy in copies] == [
        _fields_row(fields) if not copy.garbage else ("garbage",)
        for (_, fields), copy in zip(rows, copies, strict=True)
    ]
    for copy, (entry, _) in zip(copies, rows, strict=True):
        copy.entry = entry


def _row(copy: Copy) -> Row:
    if copy.garbage:
        return ("garbage",)
    content = (copy.body, copy.head) if copy.id else ()
    counts = (copy.attempt, copy.delivery, copy.lost, copy.ttl_ms != 0)
    return (copy.id, copy.letter, *content, *counts, copy.history)


def _fields_row(fields: dict[bytes, bytes]) -> Row:
    content = (fields[b"b"], fields[b"h"]) if fields[b"i"] else ()
    counts = (int(fields[b"a"]), int(fields[b"d"]), int(fields[b"l"]), fields[b"x"] != b"0")
    history = [json.loads(line) for line in fields[b"y"].splitlines()]
    return (fields[b"i"].decode(), fields[b"p"].decode(), *content, *counts, _told(history))


def _told(history: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    return [(line["reason"], line.get("attempt", -1), line.get("delivery", -1)) for line in history]


def _match_dead(copies: list[Copy], queue: Queue, page: int) -> None:
    letters: list[DeadMessage] = []
    while part := queue.dead(before=letters[-1].entry if letters else "", count=page):
        letters += part
    assert [
        (x.id, x.priority[0], x.reason, x.attempt, x.delivery, _told(x.history)) for x in letters
    ] == [(c.id, c.letter, c.reason, c.attempt, c.delivery, c.history) for c in reversed(copies)]
    for copy, letter in zip(reversed(copies), letters, strict=True):
        copy.entry = letter.entry


def _match_stats(model: Model, queue: Queue) -> None:
    stats, counts = queue.stats(), model.counts
    garbage = sum(copy.garbage for copies in model.ready.values() for copy in copies)
    assert stats.imbalance == -garbage  # what was not published is counted when it is found
    assert stats.ready_by == {STREAMS[letter]: len(model.ready[letter]) for letter in STREAMS}
    assert (stats.leased, stats.delayed, stats.dead) == (
        *(len(model.leased), len(model.delayed), len(model.dead)),
    )
    assert stats.due == sum(copy.due_ms < model.minute * MINUTE_MS for copy in model.delayed)
    for name in ("accepted", "done", "discarded", "purged", "retried", "redelivered", "redriven"):
        assert (name, getattr(stats, name)) == (name, counts[name])
    assert stats.dead_total == counts["dead"]
    assert stats.discarded_by == dict(model.discarded)
    assert (stats.version, stats.paused) == (model.version, model.policy.paused or model.hold)
    assert stats.run.sum_ms == counts["run_ms"]
    assert {n: c for n, c in enumerate(stats.run.counts) if c} == dict(model.runs)
    assert sum(stats.wait.counts) == counts["waited"]
    held = dict.fromkeys(model.workers, 0)
    for holder in model.leased.values():
        held[holder.consumer] = held.get(holder.consumer, 0) + 1
    assert {worker.name: worker.leased for worker in stats.workers} == held


def let_time_pass(queue: Queue, minutes: int) -> None:
    """Make everything that waits for a time older: what a faster clock would do."""
    client: Any = queue.client
    base, shift = queue.keys.base, minutes * MINUTE_MS
    for key in ("delayed", "workers", "cancelled"):
        for member in client.zrange(base + key, 0, -1):
            client.zincrby(base + key, -shift, member)
    for name in STREAMS.values():
        for row in client.xpending_range(base + name, "workers", "-", "+", 10_000):
            client.xclaim(
                *(base + name, "workers", row["consumer"], 0, [row["message_id"]]),
                idle=row["time_since_delivered"] + shift,
                justid=True,
            )
    for key in client.scan_iter(base + "dedup:*"):
        _age_key(client, key, shift)


def _age_key(client: redis.Redis, key: bytes, shift: int) -> None:
    left = client.pttl(key) - shift
    if left > 0:
        client.pexpire(key, left)
    else:
        client.delete(key)
