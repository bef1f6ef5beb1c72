"""Do the broker's counts add up, and do they agree with what was seen from outside? Pure.

accepted = done + discarded + purged + dead + ready + leased + delayed
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any

from celeriac.chaos.sidefile import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The broker's counts at one moment."""

    accepted: int
    done: int = 0
    discarded: int = 0
    purged: int = 0
    dead: int = 0
    ready: int = 0
    leased: int = 0
    delayed: int = 0

    @classmethod
    def of(cls, stats: Any) -> Ledger:
        """Take the counts from a queue's statistics."""
        return cls(**{field.name: getattr(stats, field.name) for field in fields(cls)})

    @property
    def imbalance(self) -> int:
        """Accepted messages of which nothing is known; negative when more is known than was accepted."""
        known = self.done + self.discarded + self.purged + self.dead
        return self.accepted - known - self.ready - self.leased - self.delayed


def broken_laws(
    ledger: Ledger,
    *,
    accepted: Collection[str],
    runs: Iterable[Run],
    uncertain: Collection[str] = (),
    forgetful: bool = False,
) -> list[str]:
    """Say what is wrong with a ledger, in the light of the producer's notes and the side file.

    ``uncertain`` jobs got no answer, so the broker may have counted each or not. A ``forgetful`` broker was
    killed with an unsynced file: its counts must add up among themselves, and that is all.
    """
    broken = []
    if ledger.imbalance:
        broken.append(f"{ledger.imbalance} messages are in no state at all: {ledger}")
    if forgetful:
        return broken
    least, most = len(accepted), len(set(accepted).union(uncertain))
    if not least <= ledger.accepted <= most:
        broken.append(
            f"the broker counts {ledger.accepted} accepted, the producer {least} to {most}"
        )
    finishes = sum(run.finished is not None for run in runs)
    if ledger.done > finishes:
        broken.append(f"the broker counts {ledger.done} done, and {finishes} runs finished")
    return broken
