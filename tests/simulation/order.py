"""Who is served before whom: the promises between the priorities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.simulation.books import promise


@dataclass(slots=True)
class Order:
    """Who overtook whom, and who was passed over, since the policy was declared."""

    jumps: int = 0
    """How often a lower priority was served while a higher one waited."""
    served: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)

    def judge(self, order: str, before: Mapping[str, int], got: Counter[str], *, want: int) -> None:
        """Judge one claim for ``want`` messages. ``order`` is the cycle of turns. Raises Broken."""
        strict = order.count("h") >= len(order) - 2
        total = got.total()
        self.served += total
        for number, letter in enumerate("hnl"):
            left = before[letter] - got[letter]
            over = self.passed_over[letter] + total if left and not got[letter] else 0
            self.passed_over[letter] = over
            most = len(order) + want
            promise(over <= most, f"priority {letter} waits while {over} others are served")
            if left and strict:
                self.jumps += sum(got[lower] for lower in "hnl"[number + 1 :])
        if strict:
            most = 2 * (self.served * 2 // len(order) + 2)
            text = f"lower priorities went before higher ones {self.jumps} times"
            promise(self.jumps <= most, text)
