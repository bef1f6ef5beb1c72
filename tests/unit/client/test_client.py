"""What a job becomes on the wire; no broker needed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import RFC_4122, UUID

import pytest

from celeriac.broker.connection import BrokerURLError
from celeriac.broker.message import Receipt
from celeriac.client.client import BulkReceipt, Client
from celeriac.client.envelope import decode
from celeriac.client.job import Job, message_of
from celeriac.client.publisher import priority_of


def test_a_job_is_a_protocol_2_message() -> None:
    message = message_of(Job("t.x", [1], {"a": "é🎉"}, id="id1", priority="high"))

    assert (message.id, message.task, message.priority) == ("id1", "t.x", "high")
    assert json.loads(message.body) == [
        [1],
        {"a": "é🎉"},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    assert "é🎉".encode() in message.body
    headers, _, content_type, encoding = decode(message.head, "id1", "t.x")
    assert headers["ignore_result"] is True
    assert (content_type, encoding) == ("application/json", "utf-8")


def test_ids_are_made_when_none_is_given() -> None:
    ids = {message_of(Job("t.x")).id for _ in range(1000)}

    assert len(ids) == 1000
    assert {str(UUID(id)) for id in ids} == ids
    assert {(UUID(id).version, UUID(id).variant) for id in ids} == {(4, RFC_4122)}


def test_half_a_surrogate_pair_can_be_sent() -> None:
    body = message_of(Job("t.x", kwargs={"a": "\ud83c"})).body

    assert json.loads(body)[1] == {"a": "\ud83c"}


def test_values_that_celery_can_carry_can_be_sent() -> None:
    body = message_of(Job("t.x", [datetime(2030, 1, 1, tzinfo=UTC), Decimal("1.5")])).body

    assert b"2030-01-01T00:00:00+00:00" in body
    assert b"1.5" in body


@pytest.mark.parametrize(
    ("delay", "ms"), [(0, 0), (1.5, 1500), (timedelta(minutes=1), 60_000), (0.0004, 0)]
)
def test_delays(delay: Any, ms: int) -> None:
    assert message_of(Job("t.x", delay=delay)).delay_ms == ms


def test_expiry_of_nothing_is_at_once_and_not_never() -> None:
    assert message_of(Job("t.x", expires=0)).ttl_ms == 1
    assert message_of(Job("t.x", expires=None)).ttl_ms == 0
    assert message_of(Job("t.x", expires=timedelta(seconds=2))).ttl_ms == 2000


def test_options_that_travel_in_the_head() -> None:
    job = Job(
        "t.x", timelimit=(9.5, 5), max_attempts=2, ignore_result=False, headers={"tenant": "a"}
    )

    message = message_of(job)
    headers = decode(message.head, message.id, "t.x")[0]
    assert headers["timelimit"] == [9.5, 5]
    assert (headers["max_attempts"], headers["ignore_result"], headers["tenant"]) == (2, False, "a")


def test_a_dedup_key_needs_its_time() -> None:
    assert message_of(Job("t.x", dedup_key="k", dedup_seconds=2)).dedup_ttl_ms == 2000
    assert message_of(Job("t.x")).dedup_ttl_ms == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"args": "abc"}, "args must be a list or tuple"),
        ({"kwargs": [1]}, "kwargs a mapping"),
        ({"delay": -1}, "delay: must not be negative"),
        ({"expires": timedelta(seconds=-1)}, "expires: must not be negative"),
        ({"priority": "urgent"}, "priority 'urgent': must be high, normal or low"),
        ({"kwargs": {"a": object()}}, "not JSON serializable"),
    ],
)
def test_what_cannot_be_sent_is_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        message_of(Job("t.x", **options))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *((None, "normal"), (0, "high"), (2, "high"), (3, "normal"), (6, "normal"), (7, "low")),
        *(("high", "high"), ("normal", "normal"), ("low", "low")),
    ],
)
def test_priorities(value: Any, name: str) -> None:
    assert priority_of(value) == name


def test_a_bulk_receipt_counts() -> None:
    receipts = [
        Receipt("a", "accepted"),
        Receipt("b", "duplicate"),
        Receipt("c", "refused", "full"),
        Receipt("d", "accepted"),
    ]

    bulk = BulkReceipt(receipts)

    assert (bulk.accepted, bulk.duplicates, bulk.refused) == (2, 1, [receipts[2]])


def test_a_client_without_a_broker_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERIAC_BROKER_URL", raising=False)

    with pytest.raises(BrokerURLError, match="set CELERIAC_BROKER_URL, for example celeriac://"):
        Client()
    monkeypatch.setenv("CELERIAC_BROKER_URL", "redis://h?prefix=p")
    assert Client().prefix == "p"


@pytest.mark.parametrize("name", ["", "a{b", "a}b"])
def test_impossible_queue_names(name: str) -> None:
    with pytest.raises(ValueError, match="queue name"):
        Client("celeriac://h").send(name, "t.x")


@pytest.mark.parametrize(
    ("given", "ttl_ms"),
    [({}, 3_600_000), ({"dedup_seconds": 2.5}, 2500), ({"dedup_seconds": 0}, 1)],
)
def test_a_dedup_key_travels_with_its_time(given: dict[str, Any], ttl_ms: int) -> None:
    message = message_of(Job("t.x", dedup_key="k", **given))
    assert (message.dedup_key, message.dedup_ttl_ms) == ("k", ttl_ms)


def test_without_a_dedup_key_there_is_no_time() -> None:
    message = message_of(Job("t.x", dedup_seconds=60))
    assert (message.dedup_key, message.dedup_ttl_ms) == ("", 0)
