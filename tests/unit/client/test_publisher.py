"""Where messages enter: what a publisher does before the scripts, on a server that answers as told."""

from __future__ import annotations

import pytest

from celeriac.broker import capture
from celeriac.broker.message import NewMessage, Receipt
from celeriac.client.publisher import MessageRefused, NotReplicated, Publisher, check
from tests.scripted import ScriptedRedis

MESSAGE = NewMessage(id="m1", task="t", body=b"[]")


class Taker:
    """A running attempt that takes messages, or leaves them."""

    def __init__(self, *, takes: bool) -> None:
        self.takes = takes
        self.offered: list[str] = []

    def offer(self, queue_name: str, message: NewMessage) -> bool:
        self.offered.append(message.id)
        return self.takes


def server(**answers: object) -> ScriptedRedis:
    return ScriptedRedis(**{"hexists": 1, "sadd": 1, "publish_one": 1, **answers})


def test_a_queue_that_nobody_declared_is_declared_and_never_over_another_policy() -> None:
    client = server(hexists=0, declare=1)
    publisher = Publisher(client)
    publisher.publish("q", MESSAGE)
    publisher.publish("q", MESSAGE)
    declared = [arguments for name, arguments in client.asked if name == "declare"]
    assert [arguments[0] for arguments in declared] == ["1"], "once, and only if it is absent"
    assert client.times("publish_one") == 2


def test_a_queue_that_is_there_is_left_as_it_is() -> None:
    client = server()
    Publisher(client).publish("q", MESSAGE)
    assert client.times("declare") == 0


@pytest.mark.parametrize("name", ["", "a{b", "a}b"])
def test_an_impossible_name_is_told_before_anything_is_asked(name: str) -> None:
    client = server()
    with pytest.raises(ValueError, match="must not be empty"):
        Publisher(client).publish(name, MESSAGE)
    assert client.asked == []


@pytest.mark.parametrize("takes", [True, False])
def test_a_running_attempt_is_offered_every_message_first(takes: bool) -> None:
    client, taker = server(), Taker(takes=takes)
    token = capture.current.set(taker)
    try:
        receipt = Publisher(client).publish("q", MESSAGE)
    finally:
        capture.current.reset(token)
    assert taker.offered == ["m1"]
    assert receipt == Receipt("m1", "accepted")
    assert client.times("publish_one") == (0 if takes else 1)


def test_what_is_refused_is_raised() -> None:
    refusal = [[0, b"refused", b"queue is full: limits.maxMessages 3"]]
    client = server(publish_one=0, publish=refusal)
    with pytest.raises(MessageRefused, match="refused message m1: queue is full") as told:
        Publisher(client).must_publish("q", MESSAGE)
    assert told.value.receipt.status == "refused"


def test_what_too_few_replicas_have_is_raised() -> None:
    receipt = Receipt("m1", "accepted", replicas=1, wanted=2)
    with pytest.raises(NotReplicated, match="only 1 of 2 replicas"):
        check("q", receipt)


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt("m1", "accepted"),
        Receipt("m1", "duplicate"),
        Receipt("m1", "accepted", replicas=2, wanted=2),
    ],
)
def test_what_is_as_good_as_it_should_be_passes(receipt: Receipt) -> None:
    check("q", receipt)
