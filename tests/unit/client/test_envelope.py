"""The head of a message: small, and nothing lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from celery.app.task import Context
from hypothesis import given
from hypothesis import strategies as st

from celeriac.client.envelope import decode, encode, task_message

NAMES = ("eta", "group", "group_index", "shadow", "parent_id", "stamped_headers", "origin")
NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


def celerys_headers(**options: Any) -> dict[str, Any]:
    app = Celery("test", set_as_current=False)
    headers: dict[str, Any] = app.amqp.as_task_v2("id1", "t.x", **options).headers
    return headers


def test_what_celery_says_of_a_plain_call_is_only_its_origin() -> None:
    headers = celerys_headers(origin="gen1@h")

    assert json.loads(encode(headers)) == {"h": {"origin": "gen1@h"}}


def test_an_empty_head_is_no_bytes() -> None:
    headers = celerys_headers()
    del headers["origin"]

    assert encode(headers, {"correlation_id": "id1", "reply_to": ""}) == b""
    assert decode(b"", "id1", "t.x") == (
        {
            "id": "id1",
            "task": "t.x",
            "root_id": "id1",
            "lang": "py",
            "retries": 0,
            "timelimit": [None, None],
            "ignore_result": False,
            "replaced_task_nesting": 0,
            "stamps": {},
        },
        {"correlation_id": "id1", "reply_to": ""},
        "application/json",
        "utf-8",
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"ignore_result": True},
        {"ignore_result": None},
        {"root_id": "another"},
        {"parent_id": "p", "group": "g", "group_index": 3},
        {"timelimit": [10, None]},
        {"retries": 4, "shadow": "name", "lang": "c"},
        {"stamped_headers": ["tenant"], "stamps": {"tenant": "t1"}, "tenant": "t1"},
        {"max_attempts": 2},
        {"mine": False, "empty": "", "zero": 0, "nothing": None},
        {"unicode": "日本 🎉"},
    ],
)
def test_what_differs_comes_back(headers: dict[str, Any]) -> None:
    decoded = decode(encode({**celerys_headers(), **headers}), "id1", "t.x")[0]

    assert {name: decoded.get(name, "missing") for name in headers} == headers


def as_a_task_sees_them(headers: dict[str, Any]) -> dict[str, Any]:
    """The request of a running task, less what the broker and the worker say of it."""
    fields = vars(Context(headers)).copy()
    for name in ("argsrepr", "kwargsrepr", "expires"):
        fields.pop(name, None)
    return {**{name: getattr(Context, name) for name in NAMES}, **fields}


texts = st.sampled_from([None, "", "t"])
#: What Celery's own producer may say, in the words of its `as_task_v2`.
options = st.fixed_dictionaries(
    {},
    optional={
        "group_id": texts,
        "group_index": st.none() | st.integers(0, 3),
        "retries": st.integers(0, 3),
        "time_limit": st.none() | st.integers(0, 3) | st.floats(0, 3),
        "soft_time_limit": st.none() | st.integers(0, 3),
        "root_id": st.none() | st.sampled_from(["id1", "another", ""]),
        "parent_id": texts,
        "shadow": texts,
        "origin": texts,
        "ignore_result": st.none() | st.booleans(),
        "replaced_task_nesting": st.integers(0, 3),
        "stamped_headers": st.none() | st.just([]) | st.just(["tenant", "zero"]),
    },
)


@given(options)
def test_a_task_sees_what_celerys_own_message_would_have_told(options: dict[str, Any]) -> None:
    # send_task says which is the root; as_task_v2 itself leaves it open.
    headers = celerys_headers(**{"root_id": "id1", "tenant": "", "zero": 0, **options})

    decoded = decode(encode(headers), "id1", "t.x")[0]

    assert as_a_task_sees_them(decoded) == as_a_task_sees_them(headers)
    for name, value in decoded.items():  # Python finds False and 0 equal
        assert type(value) is type(headers[name])


def test_the_first_member_of_a_group_keeps_its_place() -> None:
    headers = {**celerys_headers(), "group": "g", "group_index": 0}

    assert decode(encode(headers), "id1", "t.x")[0]["group_index"] == 0


def test_times_and_copies_of_the_payload_are_left_out() -> None:
    headers = celerys_headers(args=(1,), countdown=5, expires=9)

    assert not {"expires", "argsrepr", "kwargsrepr", "task", "id"} & set(
        json.loads(encode(headers))["h"]
    )


def test_a_task_can_read_when_it_was_due() -> None:
    headers = celerys_headers(countdown=5)

    assert decode(encode(headers), "id1", "t.x")[0]["eta"] == headers["eta"]
    assert "eta" not in decode(encode(celerys_headers()), "id1", "t.x")[0]


def test_properties_and_contents_that_differ() -> None:
    head = encode(
        celerys_headers(),
        {
            "reply_to": "r",
            "correlation_id": "c",
            "priority": 9,
            "delivery_mode": 2,
            "app_id": "1234",
            "user_id": "me",
        },
        "application/x-python-serialize",
        "binary",
    )

    assert decode(head, "id1", "t.x")[1:] == (
        {
            "reply_to": "r",
            "correlation_id": "c",
            "priority": 9,
            "app_id": "1234",
            "user_id": "me",
        },
        "application/x-python-serialize",
        "binary",
    )


def test_rich_values_travel_in_kombus_notation() -> None:
    rich = {"when": NOW, "who": UUID(int=7)}

    assert decode(encode({"id": "id1", **rich}), "id1", "t.x")[0].items() >= rich.items()


@pytest.mark.parametrize("head", [b"[]", b"{", b"\xff", b"7"])
def test_a_damaged_head_is_a_value_error(head: bytes) -> None:
    with pytest.raises(ValueError):
        decode(head, "id1", "t.x")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(min_size=1).map("x-".__add__), values))
def test_a_users_own_headers_survive_whatever_they_are(headers: dict[str, Any]) -> None:
    decoded = decode(encode({"id": "id1", **headers}), "id1", "t.x")[0]

    assert {name: decoded[name] for name in headers} == headers


# --- times become durations -----------------------------------------------------------------------


def message(**headers: Any) -> Any:
    return task_message(
        headers={"id": "id1", "task": "t.x", **headers},
        properties={},
        body=b"[]",
        content_type="application/json",
        content_encoding="utf-8",
        priority="normal",
        now=NOW,
        timezone=timezone(timedelta(hours=2)),
    )


@pytest.mark.parametrize(
    ("eta", "delay_ms"),
    [
        (None, 0),
        ("2030-01-01T12:00:01.500000+00:00", 1500),
        ("2030-01-01T12:00:01Z", 1000),
        ("2030-01-01T14:00:01", 1000),
        ("2030-01-01T11:00:00+00:00", 0),
        (NOW + timedelta(days=1), 86_400_000),
    ],
)
def test_eta_is_a_delay(eta: Any, delay_ms: int) -> None:
    assert message(eta=eta).delay_ms == delay_ms


@pytest.mark.parametrize(
    ("expires", "ttl_ms"),
    [(None, 0), ("2030-01-01T12:00:09+00:00", 9000), ("2030-01-01T11:00:00+00:00", 1)],
)
def test_expires_is_a_time_to_live_and_never_forever(expires: Any, ttl_ms: int) -> None:
    assert message(expires=expires).ttl_ms == ttl_ms


def test_a_time_that_cannot_be_read_is_told() -> None:
    with pytest.raises(ValueError, match="soon"):
        message(eta="soon")


def test_dedup_headers_go_to_the_broker_and_no_further() -> None:
    new = message(celeriac_dedup_key="k", celeriac_dedup_seconds=1.5)

    assert (new.dedup_key, new.dedup_ttl_ms, new.head) == ("k", 1500, b"")
    assert message(celeriac_dedup_key="k").dedup_ttl_ms == 3_600_000
    assert message().dedup_key == ""
