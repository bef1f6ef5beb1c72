"""Puts what was observed and decided into a status. Pure; dates come from the status before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from celeriac.control.observe import Observation
from celeriac.control.scale import ScaleDecision
from celeriac.control.schedule import Timer
from celeriac.spec.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    transitions,
    utc,
)
from celeriac.spec.queue import MessageQueue
from celeriac.spec.status import MessageQueueStatus, ScalingStatus, ScheduleStatus

#: So many deaths in a row, each soon after the start, are no accident.
STALLED_FAILURES = 3

#: Who writes the number of workers, when not we.
_SCALERS = {"KEDA": "KEDA", "HPA": "a HorizontalPodAutoscaler of yours"}

Assessment = tuple[bool, Reason, str]


def status_of(
    queue: MessageQueue,
    observation: Observation,
    decision: ScaleDecision,
    *,
    before: MessageQueueStatus | None = None,
    timers: Iterable[Timer] = (),
    problem: str = "",
    ignored: Sequence[str] = (),
    trouble: str = "",
) -> MessageQueueStatus:
    """Write the status.

    ``problem`` says why the newest declaration cannot be used, if so, ``ignored`` which parts of it are
    not followed, and ``trouble`` which planned change failed just now.
    """
    stats, fleet = observation.stats, observation.fleet
    assessments: dict[ConditionType, Assessment] = {
        ConditionType.READY: _ready(observation, decision, queue),
        ConditionType.RECONCILING: _reconciling(observation, decision, ignored, trouble),
        ConditionType.STALLED: _stalled(observation, problem),
        ConditionType.BROKER_REACHABLE: _broker(observation),
        ConditionType.SCALING_ACTIVE: _scaling(queue, decision),
        ConditionType.PAUSED: _paused(queue, observation),
        ConditionType.DEAD_LETTERS_PRESENT: _dead(observation),
    }
    conditions = [
        Condition(
            type=type_,
            status=_spell(type_, holds, observation),
            reason=reason,
            message=message,
            last_transition_time=utc(observation.now),
            observed_generation=queue.metadata.generation,
        )
        for type_, (holds, reason, message) in assessments.items()
    ]
    return MessageQueueStatus(
        observed_generation=queue.metadata.generation,
        conditions=transitions(before.conditions if before else (), conditions, observation.now),
        replicas=fleet.running,
        ready_replicas=fleet.ready,
        desired_replicas=decision.desired,
        draining_replicas=fleet.draining,
        selector=f"celeriac.dev/queue={queue.name}",
        ready=stats.ready if stats else before.ready if before else 0,
        leased=stats.leased if stats else before.leased if before else 0,
        delayed=stats.delayed if stats else before.delayed if before else 0,
        dead=stats.dead if stats else before.dead if before else 0,
        oldest_ready_seconds=stats.oldest_ready_ms // 1000 if stats else 0,
        scaling=scaling_status(decision),
        schedules=[
            ScheduleStatus(
                name=timer.schedule.name,
                last_due_time=utc(timer.last),
                next_due_time=utc(timer.next) if timer.next else None,
            )
            for timer in timers
        ],
    )


def scaling_status(decision: ScaleDecision) -> ScalingStatus:
    """The decision as it stands in the status."""
    return ScalingStatus(**{name: getattr(decision, name) for name in ScalingStatus.model_fields})


def decision_of(status: ScalingStatus) -> ScaleDecision:
    """The decision that stands in a status."""
    return ScaleDecision(**{name: getattr(status, name) for name in ScalingStatus.model_fields})


def _ready(observation: Observation, decision: ScaleDecision, queue: MessageQueue) -> Assessment:
    fleet, stats = observation.fleet, observation.stats
    if stats is None:
        return False, observation.unreadable, observation.error
    if queue.spec.paused or stats.paused:
        _, reason, message = _paused(queue, observation)
        return True, reason, message
    if fleet.ready:
        return True, Reason.RUNNING, f"{_workers(fleet.ready)} ready for messages"
    if fleet.obstacle:
        return False, fleet.obstacle.reason, fleet.obstacle.message
    if not decision.desired:
        return True, Reason.IDLE, "nothing to do; a message starts a worker"
    if fleet.failures >= STALLED_FAILURES:
        return False, Reason.WORKERS_FAILING, fleet.last_failure
    why = f": {fleet.last_failure}" if fleet.last_failure else ""
    return False, Reason.STARTING, f"{_workers(decision.desired)} wanted, none is ready yet{why}"


def _reconciling(
    observation: Observation, decision: ScaleDecision, ignored: Sequence[str], trouble: str
) -> Assessment:
    holds, reason, message = _under_way(observation, decision)
    if observation.fleet.obstacle:
        holds, reason, message = False, observation.fleet.obstacle.reason, ""  # Stalled says more
    elif trouble:
        holds, reason, message = True, Reason.RETRYING, trouble
    return holds, reason, "; ".join([*([message] if message else []), *ignored])[:4096]


def _under_way(observation: Observation, decision: ScaleDecision) -> Assessment:
    fleet = observation.fleet
    if fleet.outdated:
        runs = "runs" if fleet.outdated == 1 else "run"
        text = f"{_workers(fleet.outdated)} still {runs} what was declared before"
        return True, Reason.ROLLING, text
    if fleet.running < decision.desired:
        run = "runs" if decision.desired == 1 else "run"
        return True, Reason.SCALING_UP, f"{fleet.running} of {_workers(decision.desired)} {run}"
    if fleet.starting:
        return True, Reason.STARTING, f"{_workers(fleet.starting)} not ready yet"
    if fleet.draining or fleet.running > decision.desired:
        finish = "finishes what it holds" if fleet.draining == 1 else "finish what they hold"
        return True, Reason.DRAINING, f"{_workers(fleet.draining)} {finish}"
    return False, Reason.AS_DECLARED, ""


def _stalled(observation: Observation, problem: str) -> Assessment:
    fleet = observation.fleet
    if problem:
        return True, Reason.INVALID_SPEC, problem[:4096]
    if fleet.obstacle:
        return True, fleet.obstacle.reason, fleet.obstacle.message
    if observation.error and observation.unreadable is not Reason.BROKER_UNREACHABLE:
        return True, observation.unreadable, observation.error
    if fleet.failures >= STALLED_FAILURES:
        died = f"died {fleet.failures} times in a row; the last time"
        how = "cannot start" if fleet.cannot_start else died
        return True, Reason.WORKERS_FAILING, f"{how}: {fleet.last_failure}"
    return False, Reason.AS_DECLARED, ""


def _broker(observation: Observation) -> Assessment:
    if observation.stats is None:
        return False, observation.unreadable, observation.error
    return True, Reason.BROKER_ANSWERS, ""


def _scaling(queue: MessageQueue, decision: ScaleDecision) -> Assessment:
    match decision.limited_by:
        case "BrokerUnreachable":
            return False, Reason.BROKER_UNREACHABLE, "the number of workers is held"
        case "Paused":
            return False, Reason.SPEC_PAUSED if queue.spec.paused else Reason.HELD_ON_BROKER, ""
    if queue.spec.autoscaling.mode == "Off":
        return False, Reason.FIXED, f"{_workers(decision.desired)}, as declared"
    if decision.limited_by == "Replicas" and queue.spec.autoscaling.mode != "Native":
        return False, Reason.EXTERNAL, f"{_SCALERS[queue.spec.autoscaling.mode]} writes replicas"
    return True, Reason.NATIVE, ""


def _paused(queue: MessageQueue, observation: Observation) -> Assessment:
    if queue.spec.paused:
        return True, Reason.SPEC_PAUSED, "spec.paused is true"
    if observation.stats is not None and observation.stats.paused:
        return True, Reason.HELD_ON_BROKER, "paused on the broker; resume it to go on"
    return False, Reason.NOT_PAUSED, ""


def _dead(observation: Observation) -> Assessment:
    dead = observation.stats.dead if observation.stats else 0
    if dead:
        return True, Reason.DEAD_LETTERS, f"{dead} dead {'letter' if dead == 1 else 'letters'}"
    return False, Reason.NO_DEAD_LETTERS, ""


def _spell(type_: ConditionType, holds: bool, observation: Observation) -> ConditionStatus:
    if observation.stats is None and type_ is ConditionType.DEAD_LETTERS_PRESENT:
        return "Unknown"
    if type_ is ConditionType.RECONCILING and observation.fleet.obstacle:
        return "Unknown"  # nothing is under way, and nothing is as declared
    return "True" if holds else "False"


def _workers(number: int) -> str:
    return f"{number} {'worker' if number == 1 else 'workers'}"
