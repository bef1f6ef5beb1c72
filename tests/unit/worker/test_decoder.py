"""Decoding a message: the request that Celery sees, and what can never be decoded."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from celeriac.broker.message import Message
from celeriac.broker.queue import Queue
from celeriac.worker.decoder import Decoder, Undeliverable

app = Celery("decoding", set_as_current=False)


@app.task(name="known")
def _known() -> None:
    pass


app.finalize()
QUEUE = Queue(Redis(), "q")
DECODER = Decoder(app, queue=QUEUE, hostname="host")
BODY = b'[[1,2],{"a":"b"},{"chain":null}]'


def _message(**changes: Any) -> Message:
    values: dict[str, Any] = {
        "lease": "n1-1",
        "id": "id-1",
        "task": "known",
        "body": BODY,
        "head": b"",
        "priority": "normal",
        "enqueued_ms": 0,
        "ready_ms": 0,
        "attempt": 0,
        "delivery": 1,
        "lost": 0,
        "expires_ms": 0,
        "history": b"",
    }
    return Message(**{**values, **changes})


def _head(headers: dict[str, Any] | None = None, **more: Any) -> bytes:
    return json.dumps({"h": headers or {}, **more}).encode()


def test_the_plainest_message() -> None:
    call = DECODER.decode(_message())
    assert (call.task.name, call.args, call.kwargs) == ("known", (1, 2), {"a": "b"})
    assert (call.max_attempts, call.retries_before) == (None, 0)
    request = call.context()
    assert (request.id, request.root_id, request.correlation_id) == ("id-1",) * 3
    assert (request.retries, request.expires, request.headers) == (0, None, None)
    assert request.hostname == "host"
    assert request.delivery_info["routing_key"] == "q"


@pytest.mark.parametrize(
    ("headers", "attempt", "retries"),
    [({}, 0, 0), ({}, 2, 2), ({"retries": 3}, 0, 3), ({"retries": 3}, 2, 5)],
)
def test_retries_are_attempts_here_and_before(
    headers: dict[str, Any], attempt: int, retries: int
) -> None:
    call = DECODER.decode(_message(head=_head(headers), attempt=attempt))
    assert call.request["retries"] == retries
    assert call.retries_before == headers.get("retries", 0)


@pytest.mark.parametrize(("delivery", "redelivered"), [(1, False), (2, True)])
def test_redelivered(delivery: int, redelivered: bool) -> None:
    info = DECODER.decode(_message(delivery=delivery)).request["delivery_info"]
    assert (info["redelivered"], info["delivery"]) == (redelivered, delivery)


@pytest.mark.parametrize(
    ("priority", "properties", "number"),
    [
        ("high", {}, 0),
        ("normal", {}, None),
        ("low", {}, 9),
        ("high", {"priority": 2}, 2),
        ("normal", {"priority": 4}, 4),
    ],
)
def test_priority_is_celerys_number(
    priority: str, properties: dict[str, int], number: int | None
) -> None:
    message = _message(priority=priority, head=_head(p=properties))
    assert DECODER.decode(message).request["delivery_info"]["priority"] == number


def test_expiry_is_an_iso_date() -> None:
    call = DECODER.decode(_message(expires_ms=1_764_000_000_000))
    assert call.request["expires"] == "2025-11-24T16:00:00+00:00"


def test_headers_of_the_user_are_kept() -> None:
    call = DECODER.decode(_message(head=_head({"tenant": "t", "max_attempts": 7})))
    assert call.context().headers == {"tenant": "t", "max_attempts": 7}
    assert call.max_attempts == 7


def test_a_compressed_body() -> None:
    head = _head({"compression": "application/x-gzip"})
    assert DECODER.decode(_message(body=zlib.compress(BODY), head=head)).args == (1, 2)


def test_kombus_own_types_in_json() -> None:
    body = b'[[{"__type__":"decimal","__value__":"1.5"}],{},{}]'
    (number,) = DECODER.decode(_message(body=body)).args
    assert str(number) == "1.5"
    assert not isinstance(number, dict)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": "unknown"}, "unknown_task"),
        ({"body": b""}, "undecodable"),
        ({"body": b"[[],{}]"}, "undecodable"),
        ({"body": b"[[],[1],{}]"}, "undecodable"),
        ({"body": b'["ab",{},7]'}, "undecodable"),
        ({"body": b"\xff"}, "undecodable"),
        ({"head": b"no json"}, "undecodable"),
        ({"head": _head({"timelimit": 5})}, "undecodable"),
        ({"head": _head({"timelimit": [-1, None]})}, "undecodable"),
        ({"head": _head({"timelimit": ["a", None]})}, "undecodable"),
        ({"head": _head({"retries": "x"})}, "undecodable"),
        ({"head": _head(ct="application/x-python-serialize", ce="binary")}, "content_disallowed"),
        ({"head": _head(ct="application/x-yaml")}, "content_disallowed"),
    ],
)
def test_what_can_never_run_says_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Undeliverable) as caught:
        DECODER.decode(_message(**changes))
    assert caught.value.reason == reason
    assert caught.value.__cause__ is not None
