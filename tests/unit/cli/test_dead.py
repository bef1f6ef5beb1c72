from __future__ import annotations

from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.broker.message import DeadMessage
from celeriac.cli.dead import Filter, columns, json_of, row, show_text

NOW_MS = 1_764_000_000_000


def letter(**changes: Any) -> DeadMessage:
    values: dict[str, Any] = {
        "entry": f"{NOW_MS - 3_600_000}-0",
        "id": "5f1c",
        "task": "app.mail",
        "priority": "high",
        "enqueued_ms": NOW_MS - 7_200_000,
        "dead_ms": NOW_MS - 3_600_000,
        "attempt": 2,
        "delivery": 3,
        "reason": "attempts_exhausted",
        "history": [
            {"reason": "error", "error": "smtplib.SMTPException", "message": "refused\nagain",
             "digest": "abc123", "worker": "w1", "startedMs": NOW_MS - 3_600_250,
             "endedMs": NOW_MS - 3_600_000, "attempt": 2, "delivery": 3},
            {"reason": "worker_lost", "worker": "w0", "attempt": 1, "delivery": 2},
        ],
        "head": b'{"h":{"lang":"py"}}',
        "body": b'[["secret@example.org"], {}, {}]',
        "body_bytes": 32,
    }  # fmt: skip
    return DeadMessage(**(values | changes))


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ({}, True),
        ({"reason": "attempts_exhausted"}, True),
        ({"reason": "delivery_limit"}, False),
        ({"error": "SMTPException"}, True),
        ({"error": "smtplib.smtpexception"}, True),
        ({"error": "smtp*"}, True),
        ({"error": "Exception"}, False),
        ({"task": "app.*"}, True),
        ({"task": "mail"}, False),
        ({"task": "app.mail", "error": "OSError"}, False),
    ],
)
def test_filters(filters: dict[str, Any], fits: bool) -> None:
    assert Filter(**filters).matches(letter()) is fits
    assert Filter(**filters).given is bool(filters)


def test_since_looks_at_the_time_of_death() -> None:
    assert Filter(since=timedelta(minutes=59)).too_old(letter().dead_ms, NOW_MS)
    assert not Filter(since=timedelta(minutes=61)).too_old(letter().dead_ms, NOW_MS)
    assert not Filter().too_old(letter().dead_ms, NOW_MS)


@given(st.text("ab.*?[]!", max_size=8), st.text("abAB.[]!", max_size=8))
def test_what_fits_a_pattern_holds_the_text_that_the_server_looks_for(
    pattern: str, text: str
) -> None:
    sought = Filter(error=pattern).texts().get("error", "")
    if fnmatchcase(text.lower(), pattern.lower()):
        assert sought.lower() in text.lower()


def test_the_server_looks_for_the_longest_plain_part_of_each_pattern() -> None:
    assert Filter(reason="delivery_*", error="*[xyz].TimeoutErr?r", task="*").texts() == {
        "reason": "delivery_",
        "error": ".TimeoutErr",
        "task": "",
    }
    assert Filter().texts() == {}


@pytest.mark.parametrize("wide", [False, True])
def test_a_row_has_a_cell_for_each_column(wide: bool) -> None:
    cells = row(letter(), NOW_MS, wide=wide)
    assert len(cells) == len(columns(wide=wide))
    assert "1h ago" in cells


def test_the_payload_is_shown_only_when_asked_for() -> None:
    for record in (json_of(letter()), json_of(letter(), history=True)):
        assert "secret" not in str(record)
        assert record["bodyBytes"] == 32
    shown = json_of(letter(), payload=True)
    assert shown["body"] == [["secret@example.org"], {}, {}]
    assert shown["headers"] == {"h": {"lang": "py"}}
    assert "secret" not in "\n".join(show_text(letter(), "mail", NOW_MS, payload=False))
    assert "secret" in "\n".join(show_text(letter(), "mail", NOW_MS, payload=True))


def test_a_body_that_is_no_json_is_shown_as_it_is() -> None:
    assert json_of(letter(body=b"plain"), payload=True)["body"] == "plain"
    assert json_of(letter(body=b"\x80\x04"), payload=True)["body"] == "b'\\x80\\x04'"


def test_the_whole_history_is_shown_newest_first() -> None:
    text = "\n".join(show_text(letter(), "mail", NOW_MS, payload=False))
    assert "attempt 2, delivery 3, ran 250 ms: error" in text
    assert "smtplib.SMTPException: refused again" in text
    assert "worker w1, traceback abc123" in text
    assert text.index("attempt 2") < text.index("attempt 1, delivery 2: worker_lost")
    assert "celeriac dlq redrive mail 5f1c" in text
    history = json_of(letter(), history=True)["history"]
    assert history[0]["endedAt"] == "2025-11-24T15:00:00.000Z"
    assert "endedMs" not in history[0]


def test_garbage_without_an_id_is_named_by_its_entry() -> None:
    garbage = letter(id="", task="", reason="undecodable", history=[], attempt=0, delivery=0)
    assert row(garbage, NOW_MS)[:4] == [garbage.entry, None, "undecodable", None]
    assert "(none)" in "\n".join(show_text(garbage, "mail", NOW_MS, payload=False))
