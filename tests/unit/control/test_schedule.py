"""Schedules: one message for each due time, and one for all that was missed lately."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from celeriac.client.envelope import decode
from celeriac.control.schedule import Due, Timer, catch_up, due, message_of, timers
from celeriac.spec.queue import Schedule

from .conftest import NOW

HOURLY = Schedule(name="clean", cron="0 * * * *", task="mail.clean", kwargs={"days": 30})


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-01-31T{text}+00:00")


def one(last: str | None, *, now: datetime, schedule: Schedule = HOURLY) -> Timer:
    remembered = {schedule.name: at(last)} if last else {}
    return catch_up(timers([schedule], remembered, now=now)["clean"], now=now)


def test_a_new_schedule_begins_now_and_makes_up_for_nothing() -> None:
    timer = one(None, now=NOW)

    assert (timer.last, timer.next) == (NOW, at("10:00"))
    assert due([timer], now=NOW) == []


@pytest.mark.parametrize(
    ("last", "now", "fires"),
    [
        ("09:00", "09:59:59", None),
        ("09:00", "10:00:00", "10:00"),
        ("09:00", "10:00:01", "10:00"),
        ("09:00", "10:45:00", "10:00"),
        ("02:00", "09:30:00", "09:00"),  # seven were missed: only the newest is made up for
    ],
)
def test_what_is_due(last: str, now: str, fires: str | None) -> None:
    timer = one(last, now=at(now))

    assert [it.at for it in due([timer], now=at(now))] == ([at(fires)] if fires else [])


def test_what_was_missed_more_than_an_hour_ago_is_given_up() -> None:
    daily = Schedule(name="clean", cron="0 3 * * *", task="t")
    timer = one("02:00", now=at("09:30"), schedule=daily)

    assert due([timer], now=at("09:30")) == []
    assert timer.next == at("03:00") + timedelta(days=1)


def test_what_a_machine_slept_through_more_than_an_hour_ago_is_given_up() -> None:
    daily = Schedule(name="clean", cron="0 3 * * *", task="t")
    evening = one("02:00", now=at("02:30"), schedule=daily)

    morning = catch_up(evening, now=at("09:30"))

    assert due([morning], now=at("09:30")) == []
    assert morning.next == at("03:00") + timedelta(days=1)


def test_a_sleep_of_the_machine_is_caught_up_with_one_message() -> None:
    minutely = Schedule(name="clean", cron="* * * * *", task="t")
    timer = one("01:00", now=at("01:00:30"), schedule=minutely)

    (found,) = due([catch_up(timer, now=at("08:00:10"))], now=at("08:00:10"))

    assert found.at == at("08:00")


def test_a_due_time_that_was_dealt_with_is_not_due_again() -> None:
    timer = one("09:00", now=at("10:00:01"))
    (found,) = due([timer], now=at("10:00:01"))

    after = timer.dealt_with(found.at)

    assert due([after], now=at("10:00:02")) == []
    assert after.next == at("11:00")


def test_the_message_is_celery_s_protocol_2() -> None:
    schedule = HOURLY.model_copy(update={"args": [1, "ä"], "priority": "Low"})
    message = message_of("mail", Due(schedule, at("10:00")))
    headers, properties, content_type, encoding = decode(message.head, message.id, message.task)

    assert json.loads(message.body) == [
        [1, "ä"],
        {"days": 30},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    assert (headers["id"], headers["task"], headers["root_id"]) == (
        message.id,
        "mail.clean",
        message.id,
    )
    assert (content_type, encoding) == ("application/json", "utf-8")
    assert properties["correlation_id"] == message.id
    assert message.priority == "low"


def test_a_due_time_has_one_id_and_one_dedup_key() -> None:
    first, again = (message_of("mail", Due(HOURLY, at("10:00"))) for _ in range(2))
    later = message_of("mail", Due(HOURLY, at("11:00")))
    elsewhere = message_of("post", Due(HOURLY, at("10:00")))

    assert first == again
    assert first.dedup_key == "schedule:clean:2026-01-31T10:00:00Z"
    assert first.dedup_ttl_ms >= 2 * 3_600_000
    assert len({first.id, later.id, elsewhere.id}) == 3


def test_the_time_zone_counts() -> None:
    schedule = Schedule(name="clean", cron="0 11 * * *", time_zone="Europe/Berlin", task="t")

    assert one("09:00", now=NOW, schedule=schedule).next == at("10:00")
