"""The shorter way of a publish: whatever interrupts it, no later command gets its answer."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
import redis

from celeriac.client.pinned import PinnedClient


class Connection:
    """A connection that answers what the test says."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.steps: list[str] = []
        self._sock: object | None = None

    def connect(self) -> None:
        self.steps.append("connect")
        self._sock = object()

    def disconnect(self) -> None:
        self.steps.append("disconnect")
        self._sock = None

    def can_read(self) -> bool:
        return False

    def send_packed_command(self, command: list[bytes]) -> None:
        self.steps.append("send")

    def read_response(self) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Pool:
    """A pool of one connection."""

    connection_kwargs: dict[str, Any] = {}

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.given_back = 0

    def get_connection(self) -> Connection:
        return self.connection

    def release(self, connection: Connection) -> None:
        self.given_back += 1


def client_of(*answers: Any) -> tuple[PinnedClient, Connection]:
    connection = Connection([*answers])
    return PinnedClient(connection_pool=Pool(connection)), connection


def ask(client: PinnedClient) -> Any:
    return client.execute_command("EVALSHA", "0" * 40, 0)


def test_one_connection_serves_one_call_after_the_other() -> None:
    client, connection = client_of(1, 2)
    assert (ask(client), ask(client)) == (1, 2)
    assert connection.steps == ["connect", "send", "send"]


@pytest.mark.parametrize("error", [redis.TimeoutError("late"), KeyboardInterrupt(), SystemExit()])
def test_after_an_interruption_the_late_answer_is_nobodys(error: BaseException) -> None:
    client, connection = client_of(error, "mine")
    with pytest.raises(type(error)):
        ask(client)
    assert ask(client) == "mine"
    assert connection.steps == ["connect", "send", "disconnect", "connect", "send"]


def test_a_refusal_is_a_whole_answer() -> None:
    client, connection = client_of(redis.ResponseError("no"), 2)
    with pytest.raises(redis.ResponseError, match="no"):
        ask(client)
    assert ask(client) == 2
    assert connection.steps == ["connect", "send", "send"]


def test_a_connection_that_the_server_closed_is_made_anew() -> None:
    client, connection = client_of(1, 2)
    ask(client)
    connection.can_read = lambda: True  # type: ignore[method-assign]
    ask(client)
    assert connection.steps == ["connect", "send", "disconnect", "connect", "send"]


def test_a_thread_that_ends_gives_its_connection_back() -> None:
    client, _ = client_of(1, 2)
    pool: Any = client.connection_pool
    thread = threading.Thread(target=ask, args=(client,))
    thread.start()
    thread.join()
    assert pool.given_back == 1

    ask(client)
    assert pool.given_back == 1, "this thread lives"
    del client
    gc.collect()
    assert pool.given_back == 2
