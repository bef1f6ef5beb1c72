"""Logs: JSON, with the job they belong to, and no payload in any of them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Retry

from celeriac_messaging import logs
from celeriac_messaging.app import app
from celeriac_messaging.demo.sinks import HttpSink
from celeriac_messaging.errors import RecipientBusy
from celeriac_messaging.wiring import tools

SECRET = "s3cr3t-пароль-暗号"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    stream = io.StringIO()
    logs.configure("DEBUG", stream)
    yield stream
    root.handlers, root.level = before


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, web: HttpSink
) -> Iterator[HttpSink]:
    monkeypatch.setenv("MESSAGING_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MESSAGING_ALLOW_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv("MESSAGING_WEBHOOK_SECRETS", "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3")
    app.loader.import_default_modules()  # as a worker does when it starts
    yield web
    tools.close()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def run(name: str, payload: Any, **options: Any) -> Any:
    """Through Celery's own tracer, as in a worker."""
    return app.tasks[name].apply(kwargs={"payload": payload}, **options)


def message(web: HttpSink, **changes: Any) -> dict[str, Any]:
    return {
        "version": 2,
        "tenant": "riverside",
        "message_id": "m-1",
        "sender": SECRET,
        "recipient": {"channel": "webhook", "url": web.url("/in")},
        "body": SECRET,
        **changes,
    }


def test_a_line_names_the_job(stream: io.StringIO, environment: HttpSink) -> None:
    result = run("messaging.send_message", message(environment), task_id="job-7", retries=2)
    assert result.get() == "sent by webhook"
    (line,) = [one for one in lines(stream) if one["logger"] == "celeriac_messaging.job"]
    assert line["event"] == "done"
    assert line["job"] == "job-7"
    assert line["task"] == "messaging.send_message"
    assert line["attempt"] == 3
    assert line["what"] == "sent by webhook"
    assert line["tenant"] == "riverside"
    assert line["level"] == "info"
    assert line["time"].endswith("+00:00")


def test_the_worker_tells_queue_and_delivery(stream: io.StringIO) -> None:
    @app.task(name="test.context")
    def context() -> dict[str, object]:
        context.request.delivery_info = {"queue": "message-delivery", "delivery": 4}
        return logs.job_context()

    found = context.apply(task_id="job-8").get()
    assert found["queue"] == "message-delivery"
    assert found["delivery"] == 4
    assert logs.job_context() == {}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"body": SECRET + "\x00"},
        {"recipient": {"channel": "email", "email": SECRET}},
        {"recipient": {"channel": "email", "email": f"{'a' * 20}@example.org"}},
        {"version": SECRET},
        {"recipient": {"channel": "webhook", "url": f"http://127.0.0.1:1/{SECRET!a}"}},
        {"recipient": SECRET},
    ],
)
def test_a_payload_never_reaches_the_log(
    change: dict[str, Any], stream: io.StringIO, environment: HttpSink
) -> None:
    """Every record of every logger, at the lowest level, for jobs that work and that fail."""
    run("messaging.send_message", message(environment, **change))
    assert stream.getvalue() != ""
    for word in (SECRET, "s3cr3t", SECRET.encode("unicode_escape").decode()):
        assert word not in stream.getvalue()


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("messaging.encrypt", {"message_id": "m", "operation": "seal", "text": SECRET}),
        ("messaging.index", {"message_id": "m", "text": SECRET}),
        (
            "messaging.notify",
            {
                "notification_id": "n",
                "target": {"channel": "email", "email": "a@example.org"},
                "title": SECRET,
                "body": SECRET,
            },
        ),
    ],
)
def test_the_other_kinds_do_not_tell_either(
    name: str, payload: dict[str, Any], stream: io.StringIO, environment: HttpSink
) -> None:
    run(name, {"tenant": "riverside", **payload})
    assert stream.getvalue() != ""
    assert "s3cr3t" not in stream.getvalue()


def test_a_strangers_error_is_told_by_class_and_place(stream: io.StringIO) -> None:
    @app.task(name="test.stranger")
    def stranger() -> None:
        raise ValueError(SECRET)

    stranger.apply()
    logging.getLogger("celery.worker").error("it broke: %r", ValueError(SECRET))
    logging.getLogger("some.library").error("cannot parse %s", SECRET)
    assert "s3cr3t" not in stream.getvalue()
    failed = [one for one in lines(stream) if "error" in one]
    assert failed[0]["error"]["class"] == "ValueError"
    assert any("stranger" in frame for frame in failed[0]["error"]["frames"])
    assert "it broke: 'ValueError'" in stream.getvalue()


def test_our_own_errors_are_told_in_full(stream: io.StringIO) -> None:
    try:
        raise RecipientBusy("hooks.example.org answered 503")
    except RecipientBusy:
        logging.getLogger("celeriac_messaging").exception("failed")
    (line,) = lines(stream)
    assert line["error"]["text"] == "hooks.example.org answered 503"


def test_a_retry_tells_attempt_error_and_wait(stream: io.StringIO) -> None:
    @app.task(name="test.again")
    def again() -> None:
        raise Retry(exc=RecipientBusy("hooks.example.org answered 503"), when=3.96)

    again.apply(task_id="job-9", retries=1)
    ours, celerys = (line for line in lines(stream) if line.get("job") == "job-9")
    assert ours["event"] == "retried"
    assert (ours["level"], ours["attempt"], ours["retry_in_seconds"]) == ("warning", 2, 4.0)
    assert ours["error"]["class"] == "RecipientBusy"
    assert ours["error"]["text"] == "hooks.example.org answered 503"
    assert celerys["event"] == "task retried"


def test_a_retry_tells_nothing_of_a_strangers_error(stream: io.StringIO) -> None:
    @app.task(name="test.strange-again")
    def again() -> None:
        raise Retry(exc=ValueError(SECRET), when=4)

    again.apply()
    assert "ValueError" in stream.getvalue()
    assert "s3cr3t" not in stream.getvalue()


def test_every_task_of_the_table_is_registered() -> None:
    from celeriac_messaging.routing import ROUTES

    app.loader.import_default_modules()
    assert {route.task for route in ROUTES.values()} <= set(app.tasks)
    assert "messaging.demo.crash" not in app.tasks


def test_fields_of_others_records_are_not_let_through(stream: io.StringIO) -> None:
    extra = {"fields": {"what": SECRET}}
    logging.getLogger("smtplib").warning("sent", extra=extra)
    logging.getLogger("celeriac_messaging_of_somebody_else").warning("sent", extra=extra)
    logging.getLogger(f"{logs.OURS}.job").warning("sent", extra={"fields": {"what": "ours"}})
    theirs, somebodys, ours = lines(stream)
    assert SECRET not in f"{theirs}{somebodys}"
    assert ours["what"] == "ours"
