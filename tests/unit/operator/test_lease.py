"""Whose the Lease is: decided from what was read, by one's own clock alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac_operator.fence import Fence, Fenced
from celeriac_operator.lease import Take, Wait, Watched, choose, written

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def lease(holder: str | None, duration: int = 10) -> dict[str, Any]:
    return {
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration,
            "leaseTransitions": 4,
            "acquireTime": "long ago",
            "renewTime": "a lie",
        }
    }


@pytest.mark.parametrize(
    ("found", "since", "takes"),
    [
        (None, 100.0, True),
        (lease(""), 100.0, True),
        (lease(None), 100.0, True),
        (lease("me"), 100.0, True),
        (lease("other"), 100.0, False),
        (lease("other"), 90.1, False),
        (lease("other"), 90.0, True),
        # The holder promised to be silent for longer than we would be.
        (lease("other", duration=60), 50.0, False),
        (lease("other", duration=60), 40.0, True),
        (lease("other", duration=1), 95.0, False),
    ],
)
def test_it_is_taken_when_free_ours_or_silent_for_its_duration(
    found: dict[str, Any] | None, since: float, takes: bool
) -> None:
    choice = choose(found, Watched("v", since), me="me", now=100.0, duration_s=10)
    assert isinstance(choice, Take) is takes
    if isinstance(choice, Wait):
        assert 0 < choice.seconds <= 1


def test_the_wait_ends_just_when_it_may_be_taken() -> None:
    choice = choose(lease("other"), Watched("v", 90.3), me="me", now=100.0, duration_s=10)
    assert isinstance(choice, Wait)
    assert choice.seconds == pytest.approx(0.3)


def test_a_renewal_keeps_when_it_was_acquired() -> None:
    spec = written(lease("me"), me="me", duration_s=10, now=NOW)
    assert spec["acquireTime"] == "long ago"
    assert spec["renewTime"] == "2026-01-31T09:30:00.000000Z"
    assert spec["leaseTransitions"] == 4


def test_a_new_holder_is_counted() -> None:
    spec = written(lease("other"), me="me", duration_s=10, now=NOW)
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("me", 5)
    assert spec["acquireTime"] == spec["renewTime"]
    assert written(None, me="me", duration_s=10, now=NOW)["leaseTransitions"] == 0


def test_the_fence_opens_for_a_time_and_closes_for_good() -> None:
    now = [10.0]
    fence = Fence(monotonic=lambda: now[0])
    with pytest.raises(Fenced):
        fence.check()
    fence.open_until(15.0)
    fence.check()
    now[0] = 15.0
    with pytest.raises(Fenced):
        fence.check()
    fence.open_until(99.0)
    fence.check()
    fence.close()
    fence.open_until(1000.0)
    assert not fence.open
