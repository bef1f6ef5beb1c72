"""The loop, on a backend and a broker that live in memory: what it does over many rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from celeriac.backend.fake import FakeBackend
from celeriac.control.broker import QueueAccess
from celeriac.control.loop import Loop
from celeriac.control.source import FixedSource
from celeriac.spec.conditions import ConditionType
from celeriac.spec.queue import MessageQueue
from celeriac.spec.status import MessageQueueStatus

from .conftest import NOW, Make
from .memory import MemoryQueue

MAKE = Make()


class World:
    """A loop and all around it; time passes only when told."""

    def __init__(self, *queues: MessageQueue) -> None:
        self.passed = 0.0
        self.backend = FakeBackend(monotonic=self.seconds)
        self.source = FixedSource(queues)
        self.queues: dict[str, MemoryQueue] = {}
        self.reports: list[Mapping[str, MessageQueueStatus]] = []
        self.loop = Loop(
            backend=self.backend,
            broker=self,
            source=self.source,
            report=self.reports.append,
            clock=self,
        )

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.passed)

    def seconds(self) -> float:
        return self.passed

    def queue(self, name: str, *, lease_seconds: int) -> QueueAccess:
        return self.queues.setdefault(name, MemoryQueue())

    def rounds(self, count: int) -> None:
        for _ in range(count):
            self.loop.round()
            self.passed += 1

    @property
    def mail(self) -> MemoryQueue:
        return self.queues["mail"]

    @property
    def status(self) -> MessageQueueStatus:
        return self.loop.statuses()["mail"]

    def load(self, **numbers: Any) -> None:
        if "ready" in numbers:
            numbers["ready_by"] = {"normal": numbers.pop("ready")}
        self.mail.numbers = replace(self.mail.numbers, **numbers)

    def reason(self, type_: ConditionType) -> str:
        condition = self.status.condition(type_)
        assert condition is not None
        return condition.reason


def test_a_queue_is_declared_once_and_again_when_its_policy_changes() -> None:
    world = World(MAKE.queue())
    world.rounds(3)
    assert world.mail.calls.count("declare") == 1

    world.source.replace([MAKE.queue(retry={"maxAttempts": 9})])
    world.rounds(3)

    assert world.mail.calls.count("declare") == 2
    assert world.mail.policy is not None
    assert world.mail.policy.retry.max_attempts == 9


def test_workers_follow_the_depth() -> None:
    world = World(MAKE.queue())
    world.rounds(1)
    world.load(ready=35)
    world.rounds(2)
    assert (world.status.replicas, world.status.desired_replicas) == (4, 4)

    world.load(ready=0)
    world.rounds(29)
    assert world.status.replicas == 4
    world.rounds(4)
    assert (world.status.replicas, world.status.draining_replicas) == (0, 0)


def test_a_policy_change_starts_no_process_and_a_worker_change_replaces_all() -> None:
    world = World(MAKE.queue(autoscaling={"minReplicas": 2}))
    world.rounds(3)
    before = set(world.backend.workers(MAKE.queue()))

    world.source.replace([MAKE.queue(autoscaling={"minReplicas": 2}, limits={"maxMessages": 5})])
    world.rounds(3)
    assert set(world.backend.workers(MAKE.queue())) == before

    changed = MAKE.queue(autoscaling={"minReplicas": 2}, worker={"concurrency": 5})
    world.source.replace([changed])
    least = 2
    for _ in range(8):
        world.rounds(1)
        least = min(least, world.status.ready_replicas)
    assert len(world.backend.workers(changed)) == 2
    assert not before & set(world.backend.workers(changed))
    assert least == 2


def test_what_a_dead_worker_held_is_taken_back_in_the_next_round() -> None:
    world = World(MAKE.queue(autoscaling={"minReplicas": 1}))
    world.rounds(2)
    (name,) = world.backend.workers(MAKE.queue())
    world.backend.kill(MAKE.queue(), name)

    world.rounds(2)

    assert world.mail.taken_back == [name]
    assert world.status.replicas == 1


def test_a_worker_that_cannot_start_stalls_its_queue_and_no_other() -> None:
    other = MAKE.queue().model_copy(
        update={"metadata": MAKE.queue().metadata.model_copy(update={"name": "other"})}
    )
    world = World(MAKE.queue(autoscaling={"minReplicas": 1}), other)
    for _ in range(20):
        world.rounds(1)
        for name in world.backend.workers(MAKE.queue()):
            world.backend.kill(MAKE.queue(), name, why="exit code 1: no module named mail")
    assert world.reason(ConditionType.STALLED) == "WorkersFailing"
    assert world.reason(ConditionType.READY) in ("WorkersFailing", "Running")

    world.queues["other"].numbers = replace(world.queues["other"].numbers, ready_by={"normal": 1})
    world.rounds(2)

    assert world.loop.statuses()["other"].replicas == 1


def test_an_outage_of_the_broker_stops_and_starts_nothing() -> None:
    world = World(MAKE.queue())
    world.rounds(1)
    world.load(ready=25)
    world.rounds(2)
    before = set(world.backend.workers(MAKE.queue()))

    world.mail.down = True
    world.rounds(100)
    assert set(world.backend.workers(MAKE.queue())) == before
    assert world.reason(ConditionType.BROKER_REACHABLE) == "BrokerUnreachable"
    assert world.reason(ConditionType.SCALING_ACTIVE) == "BrokerUnreachable"

    world.mail.down = False
    world.rounds(1)
    assert world.reason(ConditionType.BROKER_REACHABLE) == "BrokerAnswers"


def test_leases_get_a_whole_lease_time_after_an_outage_before_they_are_reclaimed() -> None:
    world = World(MAKE.queue())
    world.rounds(20)
    world.load(leased=1)
    world.mail.down = True
    world.rounds(20)
    world.mail.down = False
    world.mail.calls.clear()

    world.rounds(15)
    assert "reclaim" not in world.mail.calls
    world.rounds(3)
    assert "reclaim" in world.mail.calls


def test_the_record_is_written_again_when_the_broker_lost_it() -> None:
    world = World(MAKE.queue())
    world.rounds(2)
    world.mail.numbers = MAKE.stats(declared=False, version=0)
    world.mail.policy = None

    world.rounds(1)

    assert world.mail.numbers.declared


def test_a_broker_that_is_down_is_asked_once_a_round() -> None:
    """A silent one costs seconds each time: queues must not wait for all of them."""
    names = ["mail", "b", "c"]
    world = World(
        *(
            MAKE.queue().model_copy(
                update={"metadata": MAKE.queue().metadata.model_copy(update={"name": name})}
            )
            for name in names
        )
    )
    world.rounds(1)
    asked = []
    for name in names:
        world.queues[name].down = True
        world.queues[name].calls.clear()
    original = MemoryQueue._call

    def count(self: MemoryQueue, name: str) -> None:
        asked.append(name)
        original(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryQueue, "_call", count)
        world.rounds(1)

    assert asked == ["stats"]
    assert all(
        status.condition(ConditionType.BROKER_REACHABLE).status == "False"  # type: ignore[union-attr]
        for status in world.loop.statuses().values()
    )


def test_one_change_that_fails_does_not_keep_workers_from_starting() -> None:
    world = World(MAKE.queue(autoscaling={"minReplicas": 1}))
    world.rounds(1)
    world.mail.fails = "promote"
    world.load(due=1, ready=30)

    world.rounds(2)

    assert world.status.replicas == 4


def test_a_removed_queue_drains_and_keeps_its_messages() -> None:
    queue = MAKE.queue(autoscaling={"minReplicas": 2})
    world = World(queue)
    world.rounds(2)
    world.source.replace([])
    world.backend.hold_drains = True
    world.rounds(3)
    assert len(world.backend.workers(queue)) == 2
    assert world.loop.statuses() == {}

    world.backend.hold_drains = False
    world.rounds(3)

    assert world.backend.workers(queue) == []
    assert "purge" not in world.mail.calls


def test_a_removed_queue_is_purged_if_it_says_so_and_only_once_its_workers_are_gone() -> None:
    queue = MAKE.queue(autoscaling={"minReplicas": 1}, deletionPolicy="Purge")
    world = World(queue)
    world.rounds(2)
    world.source.replace([])
    world.backend.hold_drains = True
    world.rounds(3)
    assert "purge" not in world.mail.calls

    world.backend.hold_drains = False
    world.rounds(5)

    assert world.mail.calls.count("purge") == 1


def test_a_queue_declared_again_while_it_drains_comes_back() -> None:
    queue = MAKE.queue(autoscaling={"minReplicas": 1})
    world = World(queue)
    world.rounds(2)
    world.source.replace([])
    world.rounds(1)
    world.source.replace([queue])
    world.rounds(3)

    assert world.status.ready_replicas == 1


SCHEDULES = [{"name": "clean", "cron": "* * * * *", "task": "mail.clean"}]


def test_a_schedule_fires_once_a_minute() -> None:
    world = World(MAKE.queue(schedules=SCHEDULES))
    world.rounds(130)

    assert [it.dedup_key for it in world.mail.published] == [
        "schedule:clean:2026-01-31T09:31:00Z",
        "schedule:clean:2026-01-31T09:32:00Z",
    ]
    assert world.status.schedules[0].next_due_time == "2026-01-31T09:33:00Z"


def test_a_schedule_that_fired_is_remembered_on_the_broker() -> None:
    world = World(MAKE.queue(schedules=SCHEDULES))
    world.rounds(130)

    assert world.mail.schedules == {"clean": datetime(2026, 1, 31, 9, 32, tzinfo=NOW.tzinfo)}


def test_a_schedule_that_could_not_fire_does_so_when_the_broker_is_back() -> None:
    world = World(MAKE.queue(schedules=SCHEDULES))
    world.rounds(50)
    world.mail.down = True
    world.rounds(200)
    world.mail.down = False
    world.rounds(1)

    assert [it.dedup_key for it in world.mail.published] == ["schedule:clean:2026-01-31T09:34:00Z"]


def test_a_restarted_loop_makes_up_for_the_newest_missed_time() -> None:
    first = World(MAKE.queue(schedules=SCHEDULES))
    first.rounds(10)
    second = World(MAKE.queue(schedules=SCHEDULES))
    second.queues = first.queues
    second.passed = 20 * 60 + 5
    second.rounds(2)

    assert [it.dedup_key for it in second.mail.published] == ["schedule:clean:2026-01-31T09:50:00Z"]


def test_a_schedule_that_is_gone_is_forgotten_and_begins_anew_when_it_returns() -> None:
    world = World(MAKE.queue(schedules=SCHEDULES))
    world.rounds(2)
    world.source.replace([MAKE.queue(schedules=[SCHEDULES[0] | {"name": "other"}])])
    world.rounds(2)

    assert set(world.mail.schedules) == {"other"}


def test_stopping_drains_and_keeps_everything_declared() -> None:
    queue = MAKE.queue(autoscaling={"minReplicas": 2}, deletionPolicy="Purge")
    world = World(queue)
    world.rounds(2)
    world.loop.stop()

    world.loop.run()

    assert world.backend.workers(queue) == []
    assert "purge" not in world.mail.calls


def test_a_second_ctrl_c_cuts_the_drain_short() -> None:
    queue = MAKE.queue(autoscaling={"minReplicas": 2})
    world = World(queue)
    world.rounds(2)
    world.backend.hold_drains = True
    world.loop.hurry()

    world.loop.run()

    assert world.backend.workers(queue) == []


def test_a_report_that_fails_does_not_stop_the_loop() -> None:
    world = World(MAKE.queue())
    world.loop._report = lambda statuses: 1 / 0  # type: ignore[assignment]

    world.rounds(2)

    assert world.status.desired_replicas == 0


def test_every_round_is_reported() -> None:
    world = World(MAKE.queue())
    world.rounds(3)

    assert [set(report) for report in world.reports] == [{"mail"}] * 3
