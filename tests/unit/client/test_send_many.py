"""Many messages in portions: every job leaves once, and what became of each is told when it is cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import redis

from celeriac.broker.message import NewMessage, Receipt
from celeriac.broker.refusal import BrokerFull, ours
from celeriac.client.client import (
    CHUNK_BYTES,
    CHUNK_MESSAGES,
    BulkInterrupted,
    Client,
)
from celeriac.client.job import Job
from celeriac.client.publisher import Publisher
from tests.scripted import ScriptedRedis


class Portions(Publisher):
    """Accepts portions, until it raises what the test says in place of the answer to one of them."""

    def __init__(self, errors: dict[int, Exception] | None = None) -> None:
        super().__init__(ScriptedRedis())
        self.errors = errors or {}
        self.portions: list[list[str]] = []

    def ask_publish(
        self, queue: str, messages: Sequence[NewMessage]
    ) -> Callable[[], list[Receipt]]:
        number = len(self.portions)
        self.portions.append([message.id for message in messages])

        def answer() -> list[Receipt]:
            if number in self.errors:
                raise self.errors[number]
            return [Receipt(message.id, "accepted") for message in messages]

        return answer


def client_of(portions: Portions) -> Client:
    client = Client(portions.client)
    client._publisher = portions
    return client


def jobs(number: int, *, size: int = 0) -> list[Job]:
    return [Job("t", kwargs={"pad": "x" * size}, id=f"m{n}") for n in range(number)]


def test_every_job_leaves_once_and_in_order() -> None:
    portions = Portions()
    number = 2 * CHUNK_MESSAGES + 7
    receipt = client_of(portions).send_many("q", jobs(number))
    sent = [id for portion in portions.portions for id in portion]
    assert sent == [f"m{n}" for n in range(number)] == [it.id for it in receipt.receipts]
    assert [len(it) for it in portions.portions] == [CHUNK_MESSAGES, CHUNK_MESSAGES, 7]


def test_large_jobs_travel_in_small_portions() -> None:
    portions = Portions()
    client_of(portions).send_many("q", jobs(5, size=CHUNK_BYTES // 2))
    assert [len(it) for it in portions.portions] == [1, 1, 1, 1, 1]


def test_when_the_broker_goes_away_every_job_is_accounted_for() -> None:
    portions = Portions({1: ours(redis.ConnectionError("gone"))})
    number = 3 * CHUNK_MESSAGES + 5
    with pytest.raises(BulkInterrupted) as told:
        client_of(portions).send_many("q", jobs(number))
    found = told.value
    names = [
        *(it.id for it in found.receipt.receipts),
        *(it.id for it in found.uncertain),
        *(it.id for it in found.unsent),
    ]
    assert names == [f"m{n}" for n in range(number)]
    assert len(found.receipt.receipts) == len(found.uncertain) == CHUNK_MESSAGES


def test_what_a_full_broker_refuses_was_not_sent() -> None:
    portions = Portions({0: BrokerFull("full")})
    with pytest.raises(BulkInterrupted, match="full") as told:
        client_of(portions).send_many("q", jobs(CHUNK_MESSAGES + 1))
    assert [it.id for it in told.value.unsent] == [f"m{n}" for n in range(CHUNK_MESSAGES + 1)]
    assert told.value.uncertain == []


def test_nothing_sends_nothing() -> None:
    portions = Portions()
    assert client_of(portions).send_many("q", []).receipts == []
    assert portions.portions == []
