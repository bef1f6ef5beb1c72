"""Cron expressions and time zones: are they known, and when is the next or the last due time?"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError


def zone(name: str) -> tzinfo:
    """Find a time zone. UTC needs no database of zones. Raises KeyError for an unknown one."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError) as error:  # how zoneinfo reports odd names on some systems
        raise KeyError(name) from error


def zone_error(name: str) -> str | None:
    """Say what is wrong with a time zone's name, or None."""
    try:
        zone(name)
    except KeyError:
        return f"must be a time zone that this machine knows, such as Europe/Berlin, not {name!r}"
    return None


def cron_error(expression: str) -> str | None:
    """Say what is wrong with a cron expression, or None."""
    try:
        CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        return f"must be a cron expression such as 0 3 * * MON: {str(error).lower()}"
    return None


def next_due(expression: str, time_zone: str, *, after: datetime) -> datetime | None:
    """The first due time later than ``after``, in UTC; None when there is none in sight."""
    try:
        return next(CronSim(expression, after.astimezone(zone(time_zone)))).astimezone(UTC)
    except StopIteration:
        return None


def newest_due(
    expression: str, time_zone: str, *, after: datetime, until: datetime
) -> datetime | None:
    """The newest due time later than ``after`` and not later than ``until``, in UTC."""
    newest = None
    due = next_due(expression, time_zone, after=after)
    while due is not None and due <= until:
        newest = due
        due = next_due(expression, time_zone, after=due)
    return newest
