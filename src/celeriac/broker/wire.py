"""How messages and settlements are written for the scripts, and their answers read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from celeriac.broker.layout import positions
from celeriac.broker.message import (
    Claim,
    DeadLetter,
    Done,
    Message,
    NewMessage,
    Postpone,
    Priority,
    Receipt,
    RetryAt,
    Settlement,
)
from celeriac.broker.scripts import Argument

#: What one publishing script call may carry: short enough not to hold up other clients.
PUBLISH_CHUNK_MESSAGES = 500
PUBLISH_CHUNK_BYTES = 1_000_000

#: What the scripts call a priority.
LETTER: dict[Priority, str] = {"high": "h", "normal": "n", "low": "l"}
PRIORITY = {letter.encode(): name for name, letter in LETTER.items()}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

T = TypeVar("T")


def publish_args(
    base: str, messages: Sequence[NewMessage], head_of: Callable[[NewMessage], bytes]
) -> list[Argument]:
    """Write messages as the publish script takes them."""
    args: list[Argument] = [base, len(messages)]
    for message in messages:
        args += (
            LETTER[message.priority],
            message.id,
            message.task,
            head_of(message),
            message.body,
            message.delay_ms,
            message.ttl_ms,
            message.dedup_key,
            message.dedup_ttl_ms,
        )
    return args


def receipts_of(
    messages: Sequence[NewMessage], notes: Any, *, replicas: int = 0, wanted: int = 0
) -> list[Receipt]:
    """Read what the publish script answered."""
    read = [Receipt(message.id, "accepted", "", replicas, wanted) for message in messages]
    for index, status, detail in notes:
        text = detail.decode()
        if status == b"duplicate":
            read[index] = Receipt(text, "duplicate", "", replicas, wanted)
        else:
            read[index] = Receipt(messages[index].id, "refused", text)
    return read


def claimed(answer: Any) -> Claim:
    """Read what the claim script answered."""
    version, paused, again, next_due, rows, dropped = answer
    return Claim(
        [_message(row) for row in rows],
        version,
        bool(paused),
        bool(again),
        next_due,
        [(_message(row), row[_WHY].decode()) for row in dropped],
    )


_times = itemgetter(*positions("ENQUEUED", "EXPIRES"))
_counts = itemgetter(*positions("ATTEMPT", "DELIVERY", "LOST"))
_texts = itemgetter(
    *positions("P", "ID", "TASK", "HISTORY", "HEAD", "BODY", "FROM", "ENTRY", "LAST")
)
(_WHY,) = positions("WHY")


def _message(row: list[bytes]) -> Message:
    priority, id_, task, history, head, body, letter, raw, last = _texts(row)
    enqueued, expires = _times(row)
    attempt, delivery, lost = _counts(row)
    entry = raw.decode()
    return Message(
        lease=letter.decode() + entry,
        id=_name(id_),
        task=_name(task),
        body=body,
        head=head,
        priority=PRIORITY[priority],
        enqueued_ms=int(enqueued),
        ready_ms=int(entry.partition("-")[0]),
        attempt=int(attempt),
        delivery=int(delivery) + 1,
        lost=int(lost),
        expires_ms=int(expires),
        history=history,
        last=last == b"1",
    )


def _name(raw: bytes) -> str:
    name = raw.decode("utf-8", "replace")
    if not name.isprintable():  # it would write lines of its own into logs
        name = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", name)
    return name


def settle_args(settlement: Settlement) -> list[Argument]:
    """Write a settlement as the settle script takes it."""
    message, outcome = settlement.message, settlement.outcome
    kind, delay, reason, line = "I", 0, "", b""
    head: bytes | None = None
    body: bytes | None = None
    ran = settlement.run_ms is not None
    if isinstance(outcome, RetryAt):
        kind, delay, head, body = "R", max(0, outcome.delay_ms), outcome.head, outcome.body
    elif isinstance(outcome, DeadLetter):
        kind, reason = "X", outcome.reason
    elif isinstance(outcome, Postpone):
        kind, delay = "W", outcome.delay_ms
    elif not isinstance(outcome, Done):
        reason = outcome.reason
    if isinstance(outcome, RetryAt | DeadLetter | Postpone) and outcome.failure is not None:
        line = outcome.failure.line(attempt=message.attempt + ran, delivery=message.delivery)
    replaced = head is not None or body is not None
    args: list[Argument] = [
        message.lease[0],
        message.lease[1:],
        kind,
        delay,
        reason,
        line,
        "1" if replaced else "0",
        "" if settlement.run_ms is None else settlement.run_ms,
    ]
    if replaced:
        args += (message.head if head is None else head, message.body if body is None else body)
    return args


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a list into parts of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def chunks(messages: Sequence[NewMessage]) -> Iterator[Sequence[NewMessage]]:
    """Cut messages into what one call of the publish script may carry."""
    start, size = 0, 0
    for index, message in enumerate(messages):
        if index > start and (
            index - start >= PUBLISH_CHUNK_MESSAGES or size + message.size > PUBLISH_CHUNK_BYTES
        ):
            yield messages[start:index]
            start, size = index, 0
        size += message.size
    if start < len(messages):
        yield messages[start:]
