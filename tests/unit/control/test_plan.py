"""The plan: what is done in a round, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.backend.base import Fleet
from celeriac.control.observe import Declared, Observation, heard
from celeriac.control.plan import (
    Change,
    Declare,
    Fire,
    Promote,
    Purge,
    Reclaim,
    Remove,
    Run,
    TakeBack,
    TrimDead,
    plan,
    plan_removal,
)
from celeriac.control.scale import ScaleDecision
from celeriac.control.schedule import Due
from celeriac.spec.queue import Schedule

from .conftest import NOW, Make

MAKE = Make()
QUEUE = MAKE.queue()
KNOWN = Declared(1, QUEUE.spec.policy)
TWO = ScaleDecision(desired=2, limited_by="Depth")


def changes(observation: Observation, **more: Any) -> list[Change]:
    return plan(QUEUE, observation, TWO, **more)


def test_a_queue_that_is_as_declared_needs_only_to_be_kept_so() -> None:
    assert changes(MAKE.observation(declared=KNOWN)) == [Run(2)]


@pytest.mark.parametrize(
    ("declared", "stats"),
    [
        (None, {}),
        (KNOWN, {"declared": False, "version": 0}),
        (KNOWN, {"version": 2}),
        (Declared(1, MAKE.queue(paused=True).spec.policy), {}),
    ],
    ids=["never", "lost with the broker", "written by another", "changed"],
)
def test_the_record_is_written_when_it_is_not_ours(
    declared: Declared | None, stats: dict[str, Any]
) -> None:
    observation = MAKE.observation(declared=declared, stats=MAKE.stats(**stats))

    assert changes(observation) == [Declare(QUEUE.spec.policy), Run(2)]


def test_due_and_orphaned_messages_are_seen_to_though_no_worker_runs() -> None:
    observation = MAKE.observation(
        declared=KNOWN, stats=MAKE.stats(due=3, leased=1), fleet=Fleet(lost=("a", "b"))
    )

    assert changes(observation) == [TakeBack(("a", "b")), Reclaim(), Promote(), Run(2)]


def test_nothing_is_reclaimed_before_the_broker_has_answered_for_a_whole_lease() -> None:
    lease_s = QUEUE.spec.worker.lease_seconds
    back_for_less = MAKE.observation(
        declared=KNOWN, stats=MAKE.stats(leased=1), answering_s=lease_s - 1.0
    )

    assert changes(back_for_less) == [Reclaim(look_only=True), Run(2)]


def test_schedules_fire_and_old_dead_letters_go() -> None:
    due = Due(Schedule(name="s", cron="* * * * *", task="t"), NOW)
    observation = MAKE.observation(declared=KNOWN, stats=MAKE.stats(dead=1))

    assert changes(observation, dues=[due], trim=True) == [
        Fire(due),
        TrimDead(1_000_000_000, 1_209_600_000),
        Run(2),
    ]
    assert TrimDead not in map(type, changes(MAKE.observation(declared=KNOWN), trim=True))


def test_without_a_broker_only_workers_are_seen_to() -> None:
    due = Due(Schedule(name="s", cron="* * * * *", task="t"), NOW)
    observation = MAKE.observation(error="gone", fleet=Fleet(lost=("a",)))

    assert changes(observation, dues=[due], trim=True) == [Run(2)]


@pytest.mark.parametrize(
    ("policy", "fleet", "purged"),
    [
        ("Retain", Fleet(), False),
        ("Purge", Fleet(), True),
        ("Purge", Fleet(draining=1), False),
        ("Purge", Fleet(lost=("a",)), False),
    ],
)
def test_a_removed_queue_keeps_its_messages_unless_it_says_purge(
    policy: str, fleet: Fleet, purged: bool
) -> None:
    found = plan_removal(MAKE.queue(deletionPolicy=policy), MAKE.observation(fleet=fleet))

    assert Remove() in found
    assert (Purge() in found) is purged


def test_the_children_of_a_worker_are_one_with_it() -> None:
    stats = MAKE.stats(workers=[("a", 0), ("a/0", 2), ("a/1", 3), ("b", 1)])

    assert heard(stats) == {"a": 5, "b": 1}
    assert heard(None) == {}
