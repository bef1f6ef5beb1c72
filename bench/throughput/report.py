"""Many numbers in one table: medians, spreads and ratios, and on what they were measured."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("celeriac", "celery", "kombu", "billiard", "redis", "hiredis")


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


def spread(values: Sequence[float], unit: str) -> str:
    """The median, and the least and greatest where there are several."""
    text = f"{_number(statistics.median(values))} {unit}"
    if len(values) > 1:
        text += f" ({_number(min(values))}-{_number(max(values))})"
    return text


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def table(rows: Sequence[Row]) -> str:
    """A Markdown table whose columns line up."""
    lines = [["", "stock Celery", "Celeriac", "ratio"], *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    text = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def machine() -> Iterator[str]:
    """What this machine is, as far as it matters."""
    yield f"{os.cpu_count()} cores, {_memory_gib()} GiB, {_processor()}, {platform.system()}"
    yield f"Python {platform.python_version()}, " + ", ".join(
        f"{package} {version(package)}" for package in PACKAGES
    )
    load = os.getloadavg()[0]
    yield f"load before the start: {load:.2f}" + (
        " (BUSY: do not believe these numbers)" if load > (os.cpu_count() or 1) / 2 else ""
    )


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
