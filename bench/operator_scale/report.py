"""The table of the benchmark."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from bench.operator_scale.measure import Usage


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase and what the operator used in it."""

    name: str
    seconds: float
    used: Usage
    rss_mb: float


def table(phases: Sequence[Phase], *, queues: int) -> str:
    """The phases as a Markdown table."""
    lines = [
        f"{queues} queues, {os.cpu_count()} cores, Python {platform.python_version()}",
        "",
        "| phase | seconds | CPU | memory | reads | writes | requests a queue and minute |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for phase in phases:
        requests = phase.used.reads + phase.used.writes
        each = requests / queues / (phase.seconds / 60)
        cells = (
            phase.name,
            f"{phase.seconds:.1f}",
            f"{phase.used.cpu_s / phase.seconds:.0%}",
            f"{phase.rss_mb:.0f} MB",
            f"{phase.used.reads}",
            f"{phase.used.writes}",
            f"{each:.3f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
