from __future__ import annotations

from datetime import timedelta

import pytest

from celeriac.cli.durations import ago, parse


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("250ms", 0.25),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("90", 90),
        (1.5, 1.5),
        ("0", 0),
    ],
)
def test_reads_what_people_write(text: str | float, seconds: float) -> None:
    assert parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 s s", "-5s", "5y", "s5", "1e3", "999999d"])
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|more than a year"):
        parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m"),
        (190, "3m10s"),
        (3600, "1h"),
        (86_400 * 2 + 4 * 3600 + 59, "2d4h"),
    ],
)
def test_writes_at_most_two_units(seconds: float, text: str) -> None:
    assert ago(seconds) == text
