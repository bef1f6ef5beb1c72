"""Messages that can never run: a dead letter that says why, or a refusal; never a crash or a loop."""

from __future__ import annotations

import json
import pickle

import pytest
from contract_app import app
from contract_worker import Watched

from celeriac import MessageRefused

PICKLE = json.dumps({"ct": "application/x-python-serialize", "ce": "binary"}).encode()


def _dead_at_once(worker: Watched, message_id: str, reason: str) -> str:
    letter = worker.dead(message_id)
    assert (letter.reason, letter.attempt, letter.delivery) == (reason, 0, 1)
    assert worker.send("add", 1, 1).get(timeout=10) == 2, "the worker goes on"
    worker.settled()
    return letter.message


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("__import__('os')._exit(9)",)


def test_pickle_is_refused(worker: Watched, queue_name: str) -> None:
    body = pickle.dumps(((_Bomb(),), {}, {}))
    worker.put(queue_name, "add", body, PICKLE)
    assert "accept_content" in _dead_at_once(worker, queue_name, "content_disallowed")


def test_an_unknown_task(worker: Watched, queue_name: str) -> None:
    worker.put(queue_name, "no.such.task", b"[[],{},{}]")
    assert "no.such.task" in _dead_at_once(worker, queue_name, "unknown_task")
    assert app.backend.get_state(queue_name) == "FAILURE"
    with pytest.raises(Exception, match=r"no\.such\.task"):
        app.AsyncResult(queue_name).get(timeout=1)


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b"", b""),
        (b"\xff\x00{", b""),
        (b"[1]", b""),
        (b"[1,2,3]", b""),
        (b'{"a":1}', b""),
        (b"[[],{},[1]]", b""),
        (b"[[],{},{}]", b"\x80"),
        (b"[[],{},{}]", b"[]"),
        (b"[[],{},{}]", b'{"h":7}'),
        (b"[[],{},{}]", b'{"h":{"retries":"many"}}'),
        (b"[[],{},{}]", b'{"h":{"timelimit":5}}'),
        (b"[[],{},{}]", b'{"ct":"application/x-unknown"}'),
        (b"[[],{},{}]", b'{"h":{"compression":"application/x-gzip"}}'),
        (b"[" * 100_000, b""),
    ],
)
@pytest.mark.parametrize("worker", ["solo", "prefork", "asyncio"], indirect=True)
def test_what_cannot_be_decoded(worker: Watched, queue_name: str, body: bytes, head: bytes) -> None:
    worker.put(queue_name, "add", body, head)
    reason = "content_disallowed" if b"x-unknown" in head else "undecodable"
    _dead_at_once(worker, queue_name, reason)


def test_an_oversized_message_is_refused_where_it_is_sent(worker: Watched) -> None:
    with pytest.raises(MessageRefused, match="maxMessageBytes"):
        worker.send("add", "x" * 1_100_000, 1)
    assert worker.settled().imbalance == 0


def test_wrong_arguments_fail_as_in_celery(worker: Watched, queue_name: str) -> None:
    worker.put(queue_name, "add", b"[[1],{},{}]")
    letter = worker.dead(queue_name)
    assert (letter.reason, letter.error) == ("attempts_exhausted", "TypeError")
