"""Statuses: what people and tools read of a queue in every situation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from celeriac.backend.base import Fleet, Obstacle
from celeriac.control.observe import Observation
from celeriac.control.scale import ScaleMemory, decide
from celeriac.control.schedule import timers
from celeriac.control.status import decision_of, status_of
from celeriac.spec.conditions import ConditionType, Reason
from celeriac.spec.queue import Schedule
from celeriac.spec.status import MessageQueueStatus

from .conftest import NOW, Make

MAKE = Make()


def status(
    observation: Observation,
    *,
    before: MessageQueueStatus | None = None,
    problem: str = "",
    ignored: tuple[str, ...] = (),
    trouble: str = "",
    **spec: Any,
) -> MessageQueueStatus:
    queue = MAKE.queue(**spec)
    decision, _ = decide(queue.spec, observation, ScaleMemory(), outside_autoscaler=True)
    return status_of(
        *(queue, observation, decision),
        before=before,
        problem=problem,
        ignored=ignored,
        trouble=trouble,
    )


def told(found: MessageQueueStatus) -> dict[str, str]:
    return {it.type: f"{it.status} {it.reason}" for it in found.conditions}


CALM = {
    "Ready": "True Idle",
    "Reconciling": "False AsDeclared",
    "Stalled": "False AsDeclared",
    "BrokerReachable": "True BrokerAnswers",
    "ScalingActive": "True Native",
    "Paused": "False NotPaused",
    "DeadLettersPresent": "False NoDeadLetters",
}
ONE: dict[str, Any] = {"autoscaling": {"minReplicas": 1}}


@pytest.mark.parametrize(
    ("fleet", "stats", "spec", "differs"),
    [
        (Fleet(), {}, {}, {}),
        (Fleet(wanted=1, ready=1), {"ready": 1}, {}, {"Ready": "True Running"}),
        (
            Fleet(),
            {"ready": 1},
            {},
            {"Ready": "False Starting", "Reconciling": "True ScalingUp"},
        ),
        (
            Fleet(wanted=1, starting=1),
            {"ready": 1},
            {},
            {"Ready": "False Starting", "Reconciling": "True Starting"},
        ),
        (Fleet(draining=1), {}, {}, {"Reconciling": "True Draining"}),
        (
            Fleet(wanted=1, ready=1, outdated=1),
            {},
            ONE,
            {"Ready": "True Running", "Reconciling": "True Rolling"},
        ),
        (
            Fleet(wanted=1, waiting=1, failures=3, last_failure="exit code 1: no module"),
            {},
            ONE,
            {
                "Ready": "False WorkersFailing",
                "Reconciling": "True ScalingUp",
                "Stalled": "True WorkersFailing",
            },
        ),
        (
            Fleet(),
            {},
            {"paused": True},
            {
                "Ready": "True SpecPaused",
                "Paused": "True SpecPaused",
                "ScalingActive": "False SpecPaused",
            },
        ),
        (
            Fleet(),
            {"paused": True},
            {},
            {
                "Ready": "True HeldOnBroker",
                "Paused": "True HeldOnBroker",
                "ScalingActive": "False HeldOnBroker",
            },
        ),
        (Fleet(), {"dead": 2}, {}, {"DeadLettersPresent": "True DeadLetters"}),
        (Fleet(), {}, {"autoscaling": {"mode": "Off"}}, {"ScalingActive": "False Fixed"}),
        (Fleet(), {}, {"autoscaling": {"mode": "KEDA"}}, {"ScalingActive": "False External"}),
    ],
)
def test_conditions(
    fleet: Fleet, stats: dict[str, Any], spec: dict[str, Any], differs: dict[str, str]
) -> None:
    found = status(MAKE.observation(fleet=fleet, stats=MAKE.stats(**stats)), **spec)

    assert told(found) == CALM | differs


def test_a_broker_that_deletes_messages_needs_somebodys_help() -> None:
    observation = MAKE.observation(error="maxmemory-policy is allkeys-lru")
    found = status(replace(observation, unreadable=Reason.BROKER_EVICTS))

    assert told(found) == CALM | {
        "Ready": "False BrokerEvicts",
        "Stalled": "True BrokerEvicts",
        "BrokerReachable": "False BrokerEvicts",
        "ScalingActive": "False BrokerUnreachable",
        "DeadLettersPresent": "Unknown NoDeadLetters",
    }


def test_without_a_broker_the_last_counts_stand() -> None:
    before = status(MAKE.observation(stats=MAKE.stats(ready=7, dead=2)))
    found = status(MAKE.observation(error="no route"), before=before)

    assert told(found) == CALM | {
        "Ready": "False BrokerUnreachable",
        "BrokerReachable": "False BrokerUnreachable",
        "ScalingActive": "False BrokerUnreachable",
        "DeadLettersPresent": "Unknown NoDeadLetters",
    }
    assert (found.ready, found.dead) == (7, 2)
    broker = found.condition(ConditionType.BROKER_REACHABLE)
    assert broker is not None
    assert broker.message == "no route"


def test_a_broken_file_is_told() -> None:
    found = status(MAKE.observation(), problem="queues.yaml:3: spec: is wrong")
    stalled = found.condition(ConditionType.STALLED)

    assert stalled is not None
    assert (stalled.reason, stalled.message) == ("InvalidSpec", "queues.yaml:3: spec: is wrong")


def test_conditions_are_dated_by_their_last_change() -> None:
    before = status(MAKE.observation())
    observation = MAKE.observation(stats=MAKE.stats(dead=1))
    later = status(replace(observation, now=NOW + timedelta(hours=1)), before=before)
    times = {it.type: it.last_transition_time for it in later.conditions}

    assert times["DeadLettersPresent"] == "2026-01-31T10:30:00Z"
    assert times["Ready"] == "2026-01-31T09:30:00Z"


def test_the_decision_can_be_read_back() -> None:
    queue = MAKE.queue()
    observation = MAKE.observation(stats=MAKE.stats(ready=42, leased=1))
    decision, _ = decide(queue.spec, observation, ScaleMemory())

    assert decision_of(status_of(queue, observation, decision).scaling) == decision


def test_schedules_are_told() -> None:
    schedule = Schedule(name="clean", cron="0 * * * *", task="t")
    queue, observation = MAKE.queue(), MAKE.observation()
    decision, _ = decide(queue.spec, observation, ScaleMemory())
    set_timers = timers([schedule], {}, now=NOW)

    (found,) = status_of(queue, observation, decision, timers=set_timers.values()).schedules

    assert (found.last_due_time, found.next_due_time) == (
        "2026-01-31T09:30:00Z",
        "2026-01-31T10:00:00Z",
    )


def test_a_status_survives_json() -> None:
    found = status(MAKE.observation(stats=MAKE.stats(ready=5)))

    assert MessageQueueStatus.model_validate_json(found.model_dump_json(by_alias=True)) == found


@pytest.mark.parametrize(
    ("fleet", "reason", "message"),
    [
        (Fleet(), Reason.AS_DECLARED, "spec.new is ignored; spec.newer is ignored"),
        (
            Fleet(starting=1, wanted=1),
            Reason.STARTING,
            "1 worker not ready yet; spec.new is ignored; spec.newer is ignored",
        ),
    ],
)
def test_what_is_ignored_of_the_declaration_is_said(
    fleet: Fleet, reason: Reason, message: str
) -> None:
    found = status(
        MAKE.observation(fleet=fleet), ignored=("spec.new is ignored", "spec.newer is ignored")
    ).condition(ConditionType.RECONCILING)
    assert found is not None
    assert (found.reason, found.message) == (reason, message)


def of(found: MessageQueueStatus, type_: ConditionType) -> tuple[str, str, str]:
    condition = found.condition(type_)
    assert condition is not None
    return condition.status, condition.reason, condition.message


def test_a_change_that_failed_is_told_and_nothing_is_called_as_declared() -> None:
    text = "Run failed: the Deployment mail could not be written: a webhook is down"
    for fleet in (Fleet(), Fleet(wanted=1, ready=1)):
        found = status(MAKE.observation(fleet=fleet), trouble=text, **ONE)
        assert of(found, ConditionType.RECONCILING) == ("True", Reason.RETRYING, text)


def test_an_obstacle_stalls_the_queue_and_is_neither_under_way_nor_as_declared() -> None:
    obstacle = Obstacle(Reason.REFUSED, "spec.template.spec.nodeSelectr: field not declared")
    fleet = Fleet(wanted=1, ready=1, obstacle=obstacle)
    found = status(MAKE.observation(fleet=fleet), trouble="Run failed", **ONE)
    assert of(found, ConditionType.STALLED) == ("True", Reason.REFUSED, obstacle.message)
    assert of(found, ConditionType.RECONCILING)[:2] == ("Unknown", Reason.REFUSED)


@pytest.mark.parametrize(
    ("fleet", "least", "message"),
    [
        (Fleet(wanted=1, ready=1, outdated=1), 1, "1 worker still runs what was declared before"),
        (Fleet(wanted=2, ready=2, outdated=2), 2, "2 workers still run what was declared before"),
        (Fleet(wanted=1), 1, "0 of 1 worker runs"),
        (Fleet(wanted=1, ready=1), 2, "1 of 2 workers run"),
        (Fleet(draining=1), 0, "1 worker finishes what it holds"),
        (Fleet(draining=2), 0, "2 workers finish what they hold"),
    ],
)
def test_one_worker_is_one(fleet: Fleet, least: int, message: str) -> None:
    found = status(MAKE.observation(fleet=fleet), autoscaling={"minReplicas": least})
    assert of(found, ConditionType.RECONCILING)[2] == message


def test_only_what_died_is_said_to_have_died() -> None:
    given = {"wanted": 1, "waiting": 1, "failures": 3, "last_failure": "exceeded quota"}
    died, cannot = (
        status(MAKE.observation(fleet=Fleet(**given, cannot_start=it)), **ONE)  # type: ignore[arg-type]
        for it in (False, True)
    )
    assert of(died, ConditionType.STALLED)[2] == (
        "died 3 times in a row; the last time: exceeded quota"
    )
    assert of(cannot, ConditionType.STALLED)[2] == "cannot start: exceeded quota"
