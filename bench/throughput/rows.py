"""The rows of the core comparison: what was measured of both, round after round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from bench.harness.report import spread

HEAD = ("", "stock Celery", "Celeriac", "ratio")


@dataclass(slots=True)
class Row:
    """One thing that was measured of both, round after round."""

    name: str
    unit: str
    better: str = "more"
    stock: list[float] = field(default_factory=list)
    celeriac: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times better Celeriac is, by the medians; 1 is the same."""
        ours, theirs = statistics.median(self.celeriac), statistics.median(self.stock)
        return ours / theirs if self.better == "more" else theirs / ours

    def cells(self) -> list[str]:
        """The row as text."""
        return [
            self.name,
            spread(self.stock, self.unit),
            spread(self.celeriac, self.unit),
            f"{self.ratio:.2f}x {'' if self.ratio >= 1 else '(worse)'}".strip(),
        ]

    def record(self) -> dict[str, object]:
        """The row as data."""
        return {
            "name": self.name,
            "unit": self.unit,
            "better": self.better,
            "stock": self.stock,
            "celeriac": self.celeriac,
            "ratio": round(self.ratio, 3),
        }
