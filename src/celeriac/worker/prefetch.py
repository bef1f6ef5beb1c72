"""How many messages a worker may hold: its slots, and a little more when tasks are short.

A claim costs a round trip. For tasks of a few microseconds it pays to claim many at once; for tasks of a
second it would only keep messages from workers that are free. So a worker holds, beyond its slots, what
it will have started within a few hundredths of a second, and while it waits for a broker that is far away.
Where urgent messages come it holds less: each of them has to wait for all that is held already.
"""

from __future__ import annotations

from typing import Final

#: How much work, in seconds, may wait inside a worker beside a broker that is near.
TARGET_S: Final = 0.02
#: And for how many of its round trips: one to claim in, one for what ended meanwhile to be settled.
TRIPS: Final = 2
#: What took longer, in seconds, was no distance: a broker or a worker that stood still.
FARTHEST_S: Final = 1.0
LARGEST: Final = 256
#: The same where urgent messages come, and after how many claims without one nobody waits for more.
URGENT_TARGET_S: Final = 0.002
URGENT_LARGEST: Final = 64
CALM_CLAIMS: Final = 1000
_WEIGHT: Final = 0.2


class Prefetch:
    """Follows the run time of tasks with an exponentially weighted mean, and the broker's distance."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._mean_s: float | None = None
        self.trip_s = 0.0
        """The broker's distance, there and back, in seconds; 0 before it is known."""
        self._calm = CALM_CLAIMS

    def observe_claim(self, *, urgent: bool) -> None:
        """Take note of whether a claim brought an urgent message."""
        self._calm = 0 if urgent else min(CALM_CLAIMS, self._calm + 1)

    def observe_trip(self, trip_s: float) -> None:
        """Take note of how long the broker took to answer: its distance is the least of late."""
        trip_s, least = min(trip_s, FARTHEST_S), self.trip_s
        self.trip_s = min(trip_s, least * 1.1 + 0.0001) if least else trip_s

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
        target_s, most = TARGET_S, LARGEST
        if self._calm < CALM_CLAIMS:
            target_s, most = URGENT_TARGET_S, URGENT_LARGEST
        target_s += TRIPS * self.trip_s
        ahead = self.slots * target_s / max(self._mean_s, 1e-6)
        return self.slots + min(most, int(ahead))
