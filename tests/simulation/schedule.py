"""What one seed stands for: who takes part, what is to be done, and what goes wrong.

Every seed has its own mixture, most of them with only a few kinds of faults: what is always there hides
what it makes impossible.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from celeriac.spec.queue import MessageQueue
from tests.simulation.actors import LEASE_S, QUEUE, Task
from tests.simulation.network import FATES

#: What happens to whole processes, and to the server.
BLOWS = (
    "kill worker",
    "freeze worker",
    "drain worker",
    "cut worker",
    "kill producer",
    "kill supervisor",
    "restart server",
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """One seed, spelled out."""

    seed: int
    tasks: tuple[Task, ...]
    producers: int
    bulk: int
    pause_s: float
    workers: tuple[int, ...]
    """For each worker its slots."""
    supervised: bool
    same_names: bool
    """Whether a worker that is started in place of another gets its name."""
    declared: MessageQueue
    fates: dict[str, float]
    blows: tuple[str, ...]
    blow_every_s: float
    forgets: bool
    """Whether a restarted server has forgotten its last second."""
    storm_s: float
    switch_chance: float
    latency_s: float

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong."""
        return not (self.fates or self.blows or any(task.poison for task in self.tasks))

    @classmethod
    def of(cls, seed: int) -> Schedule:
        """Draw everything from the seed."""
        chance = Random(seed)
        calm = chance.random() < 0.08
        fates: dict[str, float] = {}
        blows: list[str] = []
        if not calm:
            density, kinds = chance.choice([0.01, 0.03, 0.1]), chance.choice([0.15, 0.4])
            fates = {name: density for name in FATES if chance.random() < kinds}
            blows = [name for name in BLOWS if chance.random() < kinds]
        tasks = tuple(_tasks(chance, calm=calm))
        producers, bulk = chance.randint(1, 3), chance.choice([1, 2, 5, 16])
        storm_s = chance.uniform(1, 8)
        # At once, or spread over the storm.
        rounds = max(1, len(tasks) // (producers * bulk))
        pause_s = chance.choice([0.0, 0.5, 1.0]) * storm_s / rounds
        return cls(
            seed=seed,
            tasks=tasks,
            producers=producers,
            bulk=bulk,
            pause_s=pause_s,
            workers=tuple(chance.choice([1, 1, 3]) for _ in range(chance.randint(1, 3))),
            supervised=chance.random() < 0.8,
            same_names=chance.random() < 0.2,
            declared=_declared(chance),
            fates=fates,
            blows=tuple(blows),
            blow_every_s=chance.choice([0.3, 1.0]),
            forgets=chance.random() < 0.15,
            storm_s=storm_s,
            switch_chance=chance.choice([0.0, 0.02, 0.2]),
            latency_s=chance.choice([0.0002, 0.002, 0.02]),
        )


def _tasks(chance: Random, *, calm: bool) -> list[Task]:
    run_s = chance.choice([0.0, 0.02, 0.3])
    number = chance.randint(3, 16)
    return [_task(f"t{n:02}", chance, run_s, calm=calm) for n in range(number)]


def _task(name: str, chance: Random, run_s: float, *, calm: bool) -> Task:
    kind = chance.random()
    long = chance.random() < 0.08
    return Task(
        name,
        priority=chance.choice(["high", "normal", "normal", "low"]),
        delay_s=chance.choice([0, 0, 0, 0, 0, 0.4, 2.5]),
        run_s=chance.uniform(1, 2 * LEASE_S) if long else chance.uniform(0, 2 * run_s),
        failures=99 if kind < 0.04 else chance.randint(1, 2) if kind < 0.2 else 0,
        poison=0.2 < kind < 0.22 and not calm,
    )


def _declared(chance: Random) -> MessageQueue:
    spec: dict[str, Any] = {
        "worker": {"app": "a", "pool": "Threads", "leaseSeconds": LEASE_S},
        "retry": {
            "maxAttempts": 3,
            "backoff": {"initialSeconds": chance.choice([0, 1]), "maxSeconds": 1},
        },
        "deadLetter": {"maxDeliveries": chance.choice([1, 3, 5])},
        "priority": {
            "mode": chance.choice(["Strict", "Weighted"]),
            "starvationBound": chance.choice([1, 3, 20]),
        },
    }
    return MessageQueue.model_validate(
        {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "MessageQueue",
            "metadata": {"name": QUEUE},
            "spec": spec,
        }
    )
