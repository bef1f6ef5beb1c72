"""Looks after one queue: remembers from round to round, and does the changes that were planned."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

import redis

from celeriac.backend.base import Backend, Fleet
from celeriac.broker.eviction import EvictingServer
from celeriac.control import plan as planned
from celeriac.control.broker import Broker, BrokerNotConfigured, QueueAccess
from celeriac.control.clock import Clock
from celeriac.control.observe import Declared, Observation, heard
from celeriac.control.scale import ScaleDecision, ScaleMemory, decide
from celeriac.control.schedule import Due, Timer, catch_up, due, message_of, timers
from celeriac.control.status import status_of
from celeriac.spec.conditions import Reason
from celeriac.spec.queue import MessageQueue
from celeriac.spec.status import MessageQueueStatus

logger = logging.getLogger(__name__)

TRIM_EVERY_S = 60.0


class Keeper:
    """Brings one queue closer to what it declares, a round at a time."""

    def __init__(
        self,
        queue: MessageQueue,
        *,
        backend: Backend,
        broker: Broker,
        clock: Clock,
        outside_autoscaler: bool = False,
    ) -> None:
        self.queue = queue
        self.status: MessageQueueStatus | None = None
        self.decision: ScaleDecision | None = None
        self.unreachable = ""
        """Why the broker did not answer in the last round; empty when it did."""
        self.trouble = ""
        """Which planned change failed in the last round, and why; empty when none did."""
        self.fleet = Fleet()
        """The workers as the last round saw them."""
        self._backend = backend
        self._broker = broker
        self._clock = clock
        self._outside_autoscaler = outside_autoscaler
        self._access = self._open(queue)
        self._declared: Declared | None = None
        self._memory = ScaleMemory()
        self._timers: dict[str, Timer] | None = None
        self._trim_at = 0.0
        self._answers_since: float | None = None

    def declare(self, queue: MessageQueue) -> None:
        """Look after this declaration from now on."""
        before, self.queue = self.queue, queue
        if queue.spec.worker.lease_seconds != before.spec.worker.lease_seconds:
            self._access = self._open(queue)
        if queue.spec.schedules != before.spec.schedules:
            self._timers = None

    def round(self, *, problem: str = "", ignored: Sequence[str] = (), down: str = "") -> None:
        """Observe, decide, plan, do, report.

        ``problem`` says why the newest declaration cannot be used, ``ignored`` what of it is not
        followed. ``down`` says that the broker did not answer somebody else a moment ago, so that
        it is not asked again.
        """
        observation = self._observe(down)
        self.decision, self._memory = decide(
            self.queue.spec,
            observation,
            self._memory,
            outside_autoscaler=self._outside_autoscaler,
        )
        changes = planned.plan(
            self.queue,
            observation,
            self.decision,
            dues=due((self._timers or {}).values(), now=observation.now),
            trim=observation.seconds >= self._trim_at,
        )
        self._do(changes)
        self.status = status_of(
            self.queue,
            observation,
            self.decision,
            before=self.status,
            timers=(self._timers or {}).values(),
            problem=problem,
            ignored=ignored,
            trouble=self.trouble,
        )

    def leave(self, *, down: str = "", stopping: bool = False) -> bool:
        """One round without wanting any worker; True once all are gone.

        With ``stopping`` the queue stays declared, and keeps its messages.
        """
        observation = self._observe(down)
        changes = planned.plan_removal(self.queue, observation)
        if stopping:
            changes = [it for it in changes if not isinstance(it, planned.Purge)]
        all_done = self._do(changes)
        self.decision = ScaleDecision(desired=0, limited_by="Depth")
        self.status = status_of(self.queue, observation, self.decision, before=self.status)
        fleet = observation.fleet
        if fleet.running or fleet.draining or fleet.waiting:
            return False
        if self.unreachable:
            return stopping  # leases run out by themselves, but a purge must still come
        return all_done and not fleet.lost

    def next_due(self) -> datetime | None:
        """When a schedule is due next; None without schedules, or before the first round."""
        return min((it.next for it in (self._timers or {}).values() if it.next), default=None)

    def hurry(self) -> None:
        """End the drains of this queue's workers."""
        self._backend.hurry(self.queue)

    # --- observing ------------------------------------------------------------------------------

    def _open(self, queue: MessageQueue) -> QueueAccess:
        return self._broker.queue(queue.queue_name, lease_seconds=queue.spec.worker.lease_seconds)

    def _observe(self, down: str) -> Observation:
        stats, error, reason = None, down, Reason.BROKER_UNREACHABLE
        if not down:
            try:
                stats = self._access.stats()
                self._set_timers()
            except redis.RedisError as failure:
                stats, error = None, _why(failure)
                reason = _reason(failure)
        if error and not self.unreachable:
            logger.warning("%s: the broker cannot be read: %s", self.queue.queue_name, error)
        elif self.unreachable and not error:
            logger.info("%s: the broker answers again", self.queue.queue_name)
        self.unreachable = error
        seconds = self._clock.seconds()
        since = seconds if error or self._answers_since is None else self._answers_since
        self._answers_since = None if error else since
        self.fleet = self._backend.observe(self.queue, heard=heard(stats))
        return Observation(
            now=self._clock.now(),
            seconds=seconds,
            answering_s=seconds - since,
            fleet=self.fleet,
            stats=stats,
            error=error,
            unreadable=reason,
            declared=self._declared,
        )

    def _set_timers(self) -> None:
        """Set the timers once, and again when the schedules were changed."""
        now = self._clock.now()
        if self._timers is None:
            schedules = self.queue.spec.schedules
            known = self._access.remembered_schedules() if schedules else {}
            set_timers = timers(schedules, known, now=now)
            self._access.remember_schedules(
                {name: it.last for name, it in set_timers.items() if name not in known},
                forget=known.keys() - set_timers.keys(),
            )
            self._timers = set_timers
        self._timers = {name: catch_up(it, now=now) for name, it in self._timers.items()}

    # --- doing ----------------------------------------------------------------------------------

    def _do(self, changes: Iterable[planned.Change]) -> bool:
        """Do what can be done: one change that fails must not keep the next from its turn."""
        all_done, self.trouble = True, ""
        for change in changes:
            try:
                self._do_one(change)
            except (redis.RedisError, LookupError, OSError) as error:
                all_done = False
                self.trouble = f"{type(change).__name__} failed: {_why(error)}"
                logger.warning("%s: %s", self.queue.queue_name, self.trouble)
        return all_done

    def _do_one(self, change: planned.Change) -> None:
        match change:
            case planned.Declare(policy=policy):
                self._declared = Declared(self._access.declare(policy), policy)
            case planned.TakeBack(workers=workers):
                back = self._access.take_back(workers)
                self._backend.acknowledge(self.queue, workers)
                if back:
                    logger.info(
                        "%s: %d messages of dead workers are ready again",
                        self.queue.queue_name,
                        back,
                    )
            case planned.Reclaim(look_only=look_only):
                self._access.reclaim(look_only=look_only)
            case planned.Promote():
                self._access.promote()
            case planned.Fire(due=it):
                self._fire(it)
            case planned.TrimDead(now_ms=now_ms, retention_ms=retention_ms):
                self._trim_at = self._clock.seconds() + TRIM_EVERY_S
                self._access.trim_dead(now_ms=now_ms, retention_ms=retention_ms)
            case planned.Run(replicas=replicas):
                self._backend.ensure(self.queue, replicas=replicas)
            case planned.Remove():
                self._backend.remove(self.queue)
            case planned.Purge():
                logger.info("%s: %d messages purged", self.queue.queue_name, self._access.purge())

    def _fire(self, it: Due) -> None:
        (receipt,) = self._access.publish([message_of(self.queue.queue_name, it)])
        name = it.schedule.name
        if receipt.status == "refused":
            logger.warning("%s: schedule %s: %s", self.queue.queue_name, name, receipt.reason)
        else:
            logger.info("%s: schedule %s: %s", self.queue.queue_name, name, receipt.status)
        if self._timers is not None:
            self._timers[name] = self._timers[name].dealt_with(it.at)
        self._access.remember_schedules({name: it.at})


def _reason(error: redis.RedisError) -> Reason:
    if isinstance(error, BrokerNotConfigured):
        return Reason.BROKER_NOT_CONFIGURED
    return Reason.BROKER_EVICTS if isinstance(error, EvictingServer) else Reason.BROKER_UNREACHABLE


def _why(error: Exception) -> str:
    if isinstance(error, BrokerNotConfigured | EvictingServer):
        return str(error)
    return f"{type(error).__name__}: {error}"[:500] if str(error) else type(error).__name__
