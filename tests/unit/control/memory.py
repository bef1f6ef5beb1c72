"""A queue on the broker that does what the test says, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import redis

from celeriac.broker.message import NewMessage, QueueStats, Receipt
from celeriac.spec.policies import QueuePolicy

from .conftest import Make

MAKE = Make()


@dataclass
class MemoryQueue:
    """Remembers what it was asked to do."""

    numbers: QueueStats = field(default_factory=lambda: MAKE.stats(declared=False, version=0))
    down: bool = False
    policy: QueuePolicy | None = None
    calls: list[str] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)
    published: list[NewMessage] = field(default_factory=list)
    schedules: dict[str, datetime] = field(default_factory=dict)
    fails: str = ""

    def _call(self, name: str) -> None:
        if self.down:
            raise redis.ConnectionError("no route")
        if self.fails == name:
            raise redis.ResponseError("no permission")
        self.calls.append(name)

    def declare(self, policy: QueuePolicy) -> int:
        self._call("declare")
        version = self.numbers.version + (policy != self.policy)
        self.policy = policy
        self.numbers = replace(self.numbers, declared=True, version=version)
        return version

    def stats(self) -> QueueStats:
        self._call("stats")
        return self.numbers

    def promote(self) -> None:
        self._call("promote")

    def reclaim(self, *, look_only: bool = False) -> None:
        self._call("look" if look_only else "reclaim")

    def take_back(self, workers: Collection[str]) -> int:
        self._call("take_back")
        self.taken_back += workers
        return len(workers)

    def trim_dead(self, *, now_ms: int, retention_ms: int) -> int:
        self._call("trim_dead")
        return 0

    def publish(self, messages: Sequence[NewMessage]) -> list[Receipt]:
        self._call("publish")
        self.published += messages
        return [Receipt(message.id, "accepted") for message in messages]

    def purge(self) -> int:
        self._call("purge")
        return 0

    def remembered_schedules(self) -> dict[str, datetime]:
        self._call("remembered_schedules")
        return dict(self.schedules)

    def remember_schedules(
        self, times: Mapping[str, datetime], *, forget: Collection[str] = ()
    ) -> None:
        self.schedules |= times
        for name in forget:
            del self.schedules[name]
