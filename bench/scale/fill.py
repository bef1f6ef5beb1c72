"""Fills a queue with a great many messages, by copies that the server makes itself.

One message goes the whole way, through the broker's own scripts; the copies have its fields and an id of
their own, and are counted. So a million are there in seconds, and no client's speed is measured.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from bench import jobs
from bench.harness.processes import wait_for
from bench.harness.server import Place, empty
from bench.peers.systems import QUEUE
from celeriac import Job
from celeriac.broker.message import DeadLetter, Failure, NewMessage, Settlement
from celeriac.broker.queue import Queue
from celeriac.client.job import message_of
from celeriac.spec.policies import QueuePolicy

BATCH = 2000
TASK = "bench.tasks.noop"
#: What the letters died of: in every thousand, one of the last and half of the rest of each other.
ERRORS = ("ConnectionError", "TimeoutError", "ValueError")


def fresh(here: Place, policy: QueuePolicy | None = None) -> Queue:
    """An empty server with one queue that is declared."""
    empty(here.client)
    queue = Queue(here.client, QUEUE)
    queue.declare(policy or QueuePolicy())
    return queue


_COPIES = """
local first, last, kind = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local function id(n) return string.format('00000000-0000-4000-8000-%012d', n) end
if kind == 'delayed' then
  local due = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  local values = cmsgpack.unpack(redis.call('HGET', KEYS[2], due[1]))
  for n = first, last do
    values[2] = id(n)
    redis.call('HSET', KEYS[2], id(n), cmsgpack.pack(values))
    redis.call('ZADD', KEYS[1], due[2], id(n))
  end
else
  local models = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 3)
  for n = first, last do
    local model = models[1]
    if #models == 3 then model = models[n % 1000 == 0 and 3 or n % 2 + 1] end
    model[2][4] = id(n)
    redis.call('XADD', KEYS[1], '*', unpack(model[2]))
  end
end
redis.call('HINCRBY', KEYS[3], 'accepted', last - first + 1)
if kind == 'dead' then redis.call('HINCRBY', KEYS[3], 'dead', last - first + 1) end
"""


def fill(queue: Queue, count: int, *, delay_ms: int = 0) -> int:
    """Make ``count`` messages with 500 bytes of JSON wait; return the bytes of one message's body."""
    body = message_of(Job(TASK, (jobs.payload(),))).body
    model = NewMessage(id=_id(0), task=TASK, body=body, delay_ms=delay_ms)
    if queue.publish([model])[0].status != "accepted":
        raise AssertionError("the message was not accepted")
    _copy(queue, "delayed" if delay_ms else "normal", count, there=1)
    return len(body)


def bury(queue: Queue, count: int) -> None:
    """Make ``count`` dead letters, each with one line of history."""
    body = message_of(Job(TASK, (jobs.payload(),))).body
    queue.publish([NewMessage(id=_id(n), task=TASK, body=body) for n in range(len(ERRORS))])
    messages = queue.claim("undertaker", count=len(ERRORS)).messages
    settlements = [
        Settlement(message, DeadLetter(reason="attempts_exhausted", failure=_failure(error)), 250)
        for message, error in zip(messages, ERRORS, strict=True)
    ]
    if not all(queue.settle(settlements)):
        raise AssertionError("a lease was lost")
    _copy(queue, "dead", count, there=len(ERRORS))


def _failure(error: str) -> Failure:
    return Failure(
        reason="attempts_exhausted",
        error=error,
        message="the server at mx.example.org refused the message: 451 try again later",
        digest="0123456789ab",
        worker="bench@host:1",
        started_ms=1_700_000_000_000,
        ended_ms=1_700_000_000_250,
    )


def _copy(queue: Queue, kind: str, count: int, *, there: int) -> None:
    keys = [f"{queue.keys.base}{name}" for name in (kind, "bodies", "counters")]
    copies = queue.client.register_script(_COPIES)
    for start in _batches(there, count, kind):
        copies(keys=keys, args=[start, min(count, start + BATCH) - 1, kind])
    if queue.stats().imbalance:
        raise AssertionError("the copies are not accounted for")
    # They made the log grow: its rewriting forks the server, which is not what is measured.
    wait_for(lambda: not _rewrites_log(queue), what="the log to be rewritten", within_s=120)


def _rewrites_log(queue: Queue) -> bool:
    info: dict[str, Any] = queue.client.info("persistence")
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


def _id(number: int) -> str:
    # As long as Celery's own ids.
    return f"00000000-0000-4000-8000-{number:012}"


def _batches(first: int, count: int, kind: str) -> Iterator[int]:
    for start in range(first, count, BATCH):
        if count >= 200_000 and (start - first) % 200_000 == 0:
            print(f"{start:,} of {count:,} {kind}", file=sys.stderr, flush=True)
        yield start
