"""What is fuzzed: everything that a worker does with the bytes of a message before user code runs.

An input is a message as an attacker writes it. It must be decoded, or refused with a reason; any other
exception, and anything the worker would trip over later, is a finding.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from celery import Celery
from redis import Redis

from celeriac.broker import stats
from celeriac.broker.message import Message
from celeriac.broker.queue import Queue
from celeriac.broker.signing import SigningKeys, read_keys, split
from celeriac.cli.dead import json_of, show_text
from celeriac.client import envelope
from celeriac.worker.decoder import Call, Decoder, Undeliverable
from celeriac.worker.limits import limits_of
from celeriac.worker.pools.prefork.scoreboard import Scoreboard

REASONS = {"unknown_task", "undecodable", "content_disallowed", "bad_signature"}

app = Celery("fuzzed", set_as_current=False)


@app.task(name="t")
def _task(*_: Any, **__: Any) -> None:
    """The task that every input may call."""


app.finalize()
_KEYS = SigningKeys(read_keys("k1:" + "A" * 43 + "=", source="fuzz"))
_PLAIN = Decoder(app, queue=Queue(Redis(), "q"), hostname="fuzz")
_SIGNED = Decoder(app, queue=Queue(Redis(), "q", signing=_KEYS), hostname="fuzz")
_BOARD = Scoreboard()

#: Between the parts of an input: head, body, history.
SEPARATOR = b"\x1e\x1e"


def decode(data: bytes) -> None:
    """Open a message, as a worker does. Raises what is a finding."""
    head, _, rest = data.partition(SEPARATOR)
    body, _, history = rest.partition(SEPARATOR)
    message = Message(
        lease="n1-1",
        id="id",
        task="t",
        body=body,
        head=head,
        priority="normal",
        enqueued_ms=0,
        ready_ms=0,
        attempt=0,
        delivery=1,
        lost=0,
        expires_ms=0,
        history=history,
    )
    signature, unsigned = split(head)
    assert signature is None or head.endswith(unsigned)
    _decode(_SIGNED, message, decodes=False)
    call = _decode(_PLAIN, message, decodes=True)
    if call is not None:
        _go_on(call, message)
    _show(head, body, history)


def _decode(decoder: Decoder, message: Message, *, decodes: bool) -> Call | None:
    try:
        call = decoder.decode(message)
    except Undeliverable as error:
        refusal = error
    else:
        assert decodes, "nobody signed that"
        return call
    assert refusal.reason in REASONS, refusal.reason
    assert len(str(refusal)) < 10_000
    return None


def _go_on(call: Call, message: Message) -> None:
    """What pools do with a decoded message outside of any attempt that could fail."""
    context = call.context()
    assert (context.id, context.task, context.hostname) == ("id", "t", "fuzz")
    assert isinstance(call.args, tuple) and isinstance(call.kwargs, dict)
    assert callable(context.get) and callable(context.update)
    soft, hard = limits_of(call.task, call.request, soft_s=0, hard_s=0)
    assert 0 <= float(soft) < 2**31 and 0 <= float(hard) < 2**31
    _BOARD.write(message, hard, call.max_attempts or 0)
    assert _BOARD.read() is not None
    call.request["retries"] + 1  # Celery compares and adds


def _show(head: bytes, body: bytes, history: bytes) -> None:
    """Decode for whoever looks at a dead letter."""
    with suppress(ValueError):
        envelope.decode(head, "id", "t")
    fields = {b"h": head, b"b": body, b"y": history, b"q": body[:30], b"a": history[:30]}
    flat = [it for pair in fields.items() for it in pair]
    letter = stats.dead_message(b"1-1", flat, len(body))
    json.dumps(json_of(letter, payload=True, history=True))
    "\n".join(show_text(letter, "q", 0, payload=True)).encode()
