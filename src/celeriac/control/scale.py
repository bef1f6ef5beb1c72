"""How many workers a queue needs. Pure: a spec and an observation go in, a decision comes out.

    needed  = (ready + leased + due) / slots, rounded up
    desired = needed, at least min, at most max, and no less than it was within the last seconds

Up at once, down after a delay. Nothing is ever decided on a number that could not be read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from celeriac.control.observe import Observation
from celeriac.spec.queue import MessageQueueSpec
from celeriac.spec.status import LimitedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleDecision:
    """A number of workers, with every term it was made of."""

    desired: int
    limited_by: LimitedBy
    current: int = 0
    ready: int = 0
    leased: int = 0
    due: int = 0
    slots: int = 1
    needed: int = 0
    min_replicas: int = 0
    max_replicas: int = 0
    hold_seconds: int = 0
    oldest_ready_seconds: int = 0
    start_wait_seconds: int = 0


@dataclass(frozen=True, slots=True)
class ScaleMemory:
    """What was wanted lately: moments (monotonic seconds), and numbers that only fall."""

    samples: tuple[tuple[float, int], ...] = ()

    def add(self, now: float, number: int, *, window_s: float) -> ScaleMemory:
        """Remember a number; forget those that are too old, and those that it outdoes."""
        kept = tuple((at, it) for at, it in self.samples if now - at < window_s and it > number)
        return ScaleMemory((*kept, (now, number)))

    def most(self) -> int:
        """The greatest number of the window."""
        return max((number for _, number in self.samples), default=0)

    def last_above(self, number: int) -> float | None:
        """When more than ``number`` was wanted last."""
        return max((at for at, it in self.samples if it > number), default=None)


def decide(
    spec: MessageQueueSpec,
    observation: Observation,
    memory: ScaleMemory,
    *,
    outside_autoscaler: bool = False,
) -> tuple[ScaleDecision, ScaleMemory]:
    """Decide on the number of workers.

    ``outside_autoscaler`` says whether the modes KEDA and HPA mean something here; where nothing
    can autoscale from outside, they are taken as Native.
    """
    scaling, fleet, stats = spec.autoscaling, observation.fleet, observation.stats
    most = scaling.max_replicas
    least = min(most, max(scaling.min_replicas, spec.replicas))
    window = scaling.scale_down_delay_seconds
    now = observation.seconds
    if not memory.samples:
        # Who has just begun to look must not stop the workers found at the first glance.
        memory = memory.add(now, min(fleet.wanted, most), window_s=window)
    if stats is None:
        hold = memory.add(now, fleet.wanted, window_s=window)
        return _held(spec, observation, least, fleet.wanted, "BrokerUnreachable"), hold
    if stats.paused or spec.paused:
        held = min(fleet.wanted, most)
        hold = memory.add(now, held, window_s=window)
        return _held(spec, observation, least, held, "Paused"), hold
    needed = math.ceil((stats.ready + stats.leased + stats.due) / spec.worker.slots)
    if scaling.mode == "Off" or (scaling.mode != "Native" and outside_autoscaler):
        # Whoever scales from outside decides; what it wants is what the workers are set to.
        number = least if scaling.mode == "Off" else fleet.wanted
        return _held(spec, observation, least, number, "Replicas"), ScaleMemory()
    target = max(least, min(most, needed))
    memory = memory.add(now, target, window_s=window)
    desired = min(most, memory.most())
    last = memory.last_above(target)
    decision = _decision(
        spec,
        observation,
        least,
        desired=desired,
        limited_by=_limit(spec, needed, target, desired, least),
        hold_seconds=0 if last is None or desired == target else math.ceil(last + window - now),
    )
    return decision, memory


def _limit(spec: MessageQueueSpec, needed: int, target: int, desired: int, least: int) -> LimitedBy:
    if desired > target:
        return "Stabilisation"
    if needed > target:
        return "MaxReplicas"
    if needed < target:
        return "Replicas" if least > spec.autoscaling.min_replicas else "MinReplicas"
    return "Depth"


def _held(
    spec: MessageQueueSpec, observation: Observation, least: int, number: int, why: LimitedBy
) -> ScaleDecision:
    return _decision(spec, observation, least, desired=number, limited_by=why)


def _decision(
    spec: MessageQueueSpec,
    observation: Observation,
    least: int,
    *,
    desired: int,
    limited_by: LimitedBy,
    hold_seconds: int = 0,
) -> ScaleDecision:
    stats = observation.stats
    ready, leased, due = (stats.ready, stats.leased, stats.due) if stats else (0, 0, 0)
    return ScaleDecision(
        desired=desired,
        limited_by=limited_by,
        current=observation.fleet.wanted,
        ready=ready,
        leased=leased,
        due=due,
        slots=spec.worker.slots,
        needed=math.ceil((ready + leased + due) / spec.worker.slots),
        min_replicas=least,
        max_replicas=spec.autoscaling.max_replicas,
        hold_seconds=hold_seconds,
        oldest_ready_seconds=stats.oldest_ready_ms // 1000 if stats else 0,
        start_wait_seconds=spec.autoscaling.start_wait_seconds,
    )
