"""How many messages a worker may hold: its slots, and a little more when tasks are short.

A claim costs a round trip. For tasks of a few microseconds it pays to claim many at once; for tasks of a
second it would only keep messages from workers that are free. So a worker holds, beyond its slots, what
it will have started within a few hundredths of a second.
"""

from __future__ import annotations

from typing import Final

#: How much work, in seconds, may wait inside a worker.
TARGET_S: Final = 0.02
LARGEST: Final = 256
_WEIGHT: Final = 0.2


class Prefetch:
    """Follows the run time of tasks with an exponentially weighted mean."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._mean_s: float | None = None

    def observe(self, run_s: float) -> None:
        """Take note of one run time. Called from any thread: a lost update does no harm."""
        mean = self._mean_s
        if mean is None:
            self._mean_s = run_s
        elif run_s > mean * 20:
            # A long task among short ones: stop hoarding at once, and trust short ones again slowly.
            self._mean_s = run_s
        else:
            self._mean_s = mean + _WEIGHT * (run_s - mean)

    @property
    def capacity(self) -> int:
        """Messages to hold at most, running ones included."""
        if self._mean_s is None:
            return self.slots
        ahead = self.slots * TARGET_S / max(self._mean_s, 1e-6)
        return self.slots + min(LARGEST, int(ahead))
