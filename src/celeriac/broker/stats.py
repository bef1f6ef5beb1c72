"""Reads what the broker's scripts counted: raw replies become QueueStats and DeadMessage."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from celeriac.broker.message import (
    DeadMessage,
    Histogram,
    QueueStats,
    WorkerSeen,
)
from celeriac.broker.wire import PRIORITY

#: The end of the year 9999: no later time can be shown.
LAST_MS = 253_402_300_800_000
_NUMBERS = frozenset({"startedMs", "endedMs", "attempt", "delivery"})
_STREAMS = ("high", "normal", "low", "isolated")


def parse(name: str, raw: list[Any]) -> QueueStats:
    """Turn the reply of lua/stats.lua into statistics."""
    now, flat, record, streams, delayed, due, dead, seen, leased, bounds = raw
    counters = {_text(flat[n]): _number(flat[n + 1]) for n in range(0, len(flat), 2)}
    version, paused, hold, policy = record
    oldest = [int(stream[2]) for stream in streams if stream[2]]
    return QueueStats(
        name=name,
        now_ms=int(now),
        accepted=counters.get("accepted", 0),
        done=counters.get("done", 0),
        discarded=counters.get("discarded", 0),
        purged=counters.get("purged", 0),
        retried=counters.get("retried", 0),
        redelivered=counters.get("redelivered", 0),
        redriven=counters.get("redriven", 0),
        dead=int(dead),
        dead_total=counters.get("dead", 0),
        discarded_by={
            field.partition(":")[2]: value
            for field, value in counters.items()
            if field.startswith("discarded:")
        },
        ready_by={
            stream: int(row[0]) - int(row[1]) for stream, row in zip(_STREAMS, streams, strict=True)
        },
        leased=sum(int(row[1]) for row in streams),
        delayed=int(delayed),
        due=int(due),
        oldest_ready_ms=max(0, int(now) - min(oldest)) if oldest else 0,
        declared=policy is not None,
        paused=paused == b"1" or hold == b"1",
        version=_number(version or 0),
        workers=_workers(seen, leased),
        wait=_histogram(counters, "wait", bounds),
        run=_histogram(counters, "run", bounds),
    )


def _workers(seen: list[bytes], leased: list[Any]) -> list[WorkerSeen]:
    last = {_text(seen[n]): _number(seen[n + 1]) for n in range(0, len(seen), 2)}
    held: dict[str, int] = dict.fromkeys(last, 0)
    for n in range(0, len(leased), 2):
        consumer = _text(leased[n])
        held[consumer] = held.get(consumer, 0) + int(leased[n + 1])
    return [WorkerSeen(name, last.get(name, 0), held[name]) for name in sorted(held)]


def _histogram(counters: dict[str, int], name: str, bounds: list[int]) -> Histogram:
    return Histogram(
        bounds_ms=tuple(int(bound) for bound in bounds),
        counts=tuple(counters.get(f"{name}{n}", 0) for n in range(len(bounds) + 1)),
        sum_ms=counters.get(f"{name}sum", 0),
    )


def dead_message(entry: bytes, flat: list[bytes], body_bytes: int) -> DeadMessage:
    """Turn an entry of the dead-letter stream into a dead letter, whatever somebody put there."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))

    def text(name: bytes) -> str:
        return _text(fields.get(name, b""))

    def number(name: bytes) -> int:
        found = _number(fields.get(name, b""))
        return found if 0 <= found < LAST_MS else 0

    return DeadMessage(
        entry=entry.decode(),
        id=text(b"i"),
        task=text(b"t"),
        priority=PRIORITY.get(fields.get(b"p", b""), "normal"),
        enqueued_ms=number(b"q"),
        dead_ms=int(entry.partition(b"-")[0]),
        attempt=number(b"a"),
        delivery=number(b"d"),
        reason=text(b"r"),
        history=[_line(line) for line in fields.get(b"y", b"").splitlines() if line],
        head=fields.get(b"h", b""),
        body=fields.get(b"b", b""),
        body_bytes=body_bytes,
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _number(raw: Any) -> int:
    """Read a number; 0 when somebody wrote something else in its place."""
    try:
        return int(float(raw)) if b"." in raw or b"e" in raw else int(raw)
    except (ValueError, OverflowError, TypeError):
        return raw if isinstance(raw, int) else 0


def _is_ours(name: str, it: Any) -> bool:
    if name in _NUMBERS:
        return isinstance(it, int) and 0 <= it < LAST_MS
    return isinstance(it, str)


def _shown(it: Any) -> Any:
    # JSON can say half of a surrogate pair, and no terminal can show it.
    return it.encode("utf-8", "replace").decode() if isinstance(it, str) else it


def _line(line: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        told = json.loads(line)
        if isinstance(told, dict):
            return {_shown(name): _shown(it) for name, it in told.items() if _is_ours(name, it)}
    return {"reason": "unreadable", "message": line[:500].decode("utf-8", "replace")}
