"""Faults as the journal holds them: what the checker may take for an explanation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from celeriac.chaos.sidefile import Run

Kind = Literal["kill", "freeze", "broker", "cut", "failover"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was done to whom. Times are monotonic seconds; ``until`` ends a freeze or an outage.

    A ``cut`` keeps a worker from the broker for longer than its lease; a ``failover`` puts another server in
    the broker's place, which knows what the former had told it.
    """

    kind: Kind
    at: float
    until: float = 0.0
    group: int = 0
    """The worker (its process group), or"""
    pid: int = 0
    """the one process. With neither, it happened to all."""

    def hits(self, run: Run) -> bool:
        """Whether it happened to the process of a run."""
        everybody = not self.group and not self.pid
        return everybody or run.group == self.group or run.pid == self.pid
