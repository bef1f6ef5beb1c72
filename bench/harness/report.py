"""Many numbers in one table, and on what they were measured."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("celeriac", "celery", "kombu", "billiard", "redis", "hiredis")


def spread(values: Sequence[float], unit: str) -> str:
    """The median, and the least and greatest where there are several."""
    text = f"{number(statistics.median(values))} {unit}".strip()
    if len(values) > 1:
        text += f" ({number(min(values))}-{number(max(values))})"
    return text


def number(value: float) -> str:
    """A number as people read it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
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
