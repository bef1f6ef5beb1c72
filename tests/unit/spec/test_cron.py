"""Due times of cron expressions, over time zones and changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from celeriac.spec.cron import cron_error, newest_due, next_due, zone_error


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "after", "due"),
    [
        ("*/5 * * * *", "UTC", "2026-01-01 10:05:00", "2026-01-01 10:10:00"),
        ("*/5 * * * *", "UTC", "2026-01-01 10:05:59", "2026-01-01 10:10:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-01-01 00:00:00", "2026-01-01 02:00:00"),
        # The clock springs over 02:30 on 29 March: the job runs when the gap ends.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00:00", "2026-03-29 01:00:00"),
        # And it falls back over 02:30 on 25 October: the job runs once.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25 00:30:00", "2026-10-26 01:30:00"),
        ("0 9 L * *", "UTC", "2026-02-01 00:00:00", "2026-02-28 09:00:00"),
    ],
)
def test_next_due(cron: str, zone: str, after: str, due: str) -> None:
    assert next_due(cron, zone, after=at(after)) == at(due)


@pytest.mark.parametrize(
    ("after", "until", "due"),
    [
        ("2026-01-01 09:58:00", "2026-01-01 10:17:00", "2026-01-01 10:15:00"),
        ("2026-01-01 09:58:00", "2026-01-01 10:00:00", "2026-01-01 10:00:00"),
        ("2026-01-01 10:00:00", "2026-01-01 10:14:59", None),
    ],
)
def test_newest_due(after: str, until: str, due: str | None) -> None:
    found = newest_due("*/15 * * * *", "UTC", after=at(after), until=at(until))

    assert found == (at(due) if due else None)


def test_mistakes_are_told() -> None:
    assert cron_error("* * * * *") is None
    assert "bad hour" in (cron_error("0 24 * * *") or "")
    assert zone_error("UTC") is None
    assert "Europe/Berlin" in (zone_error("Nowhere/Land") or "")
    assert zone_error("../etc/passwd") is not None
