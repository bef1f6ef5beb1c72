"""The scoreboard in shared memory: what a child writes, its parent reads, also when the child is dead."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from celeriac.broker.message import Message
from celeriac.worker.pools.prefork.scoreboard import Scoreboard


def _message(**changes: Any) -> Message:
    values: dict[str, Any] = {
        "lease": "n1764000000000-17",
        "id": "id-1",
        "task": "a.task",
        "body": b"[[1],{},{}]",
        "head": b'{"h":{}}',
        "priority": "normal",
        "enqueued_ms": 0,
        "ready_ms": 0,
        "attempt": 3,
        "delivery": 5,
        "lost": 1,
        "expires_ms": 1_764_000_000_123,
        "history": b"",
    }
    return Message(**{**values, **changes})


def test_an_unused_board_runs_nothing() -> None:
    assert Scoreboard().read() is None


@pytest.mark.parametrize(
    "message",
    [
        _message(),
        _message(id="i" * 5_000, task="t" * 3_000),
        _message(id="\N{SNOWMAN}", task="\N{SNOWMAN}" * 100),
        _message(body=b"", head=b""),
        _message(body=bytes(range(256)) * 4_000),
    ],
)
def test_a_message_comes_back_whole(message: Message) -> None:
    board = Scoreboard()
    before = time.monotonic()
    board.write(message, 2.5, 7)
    running = board.read()
    assert running is not None
    assert running.message == message
    assert (running.hard_s, running.max_attempts) == (2.5, 7)
    assert before <= running.started <= time.monotonic()


def test_a_message_too_large_for_the_board_leaves_its_payload_out() -> None:
    board = Scoreboard()
    board.write(_message(body=b"x" * 2_000_000), 0, 0)
    running = board.read()
    assert running is not None
    assert running.message == _message(body=b"", head=b"")


def test_a_short_message_shows_nothing_of_a_longer_one_before() -> None:
    board = Scoreboard()
    board.write(_message(id="long" * 100, body=b"x" * 1_000), 9, 9)
    board.write(_message(id="s", body=b"y"), 0, 0)
    running = board.read()
    assert running is not None
    assert running.message == _message(id="s", body=b"y")


def test_it_counts_what_ended() -> None:
    board = Scoreboard()
    for ended in range(3):
        assert board.finished == ended
        board.write(_message(), 0, 0)
        assert board.finished == ended
        board.clear()
        assert board.read() is None


def test_a_parent_reads_what_its_dead_child_was_running() -> None:
    board = Scoreboard()
    pid = os.fork()
    if pid == 0:
        board.write(_message(), 0, 0)
        board.clear()
        board.write(_message(id="the-last"), 1.0, 0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    running = board.read()
    assert running is not None
    assert running.message.id == "the-last"
    assert board.finished == 1


def test_a_lease_that_is_somebody_elses_is_told_to_the_parent() -> None:
    board = Scoreboard()
    assert board.taken == ""
    message = _message()
    board.write(message, 0, 0)
    board.stop_taken(message)
    running = board.read()
    assert running is not None and board.taken == running.message.lease == message.lease
    assert running.message.task == "a.task", "the texts after it are whole"
