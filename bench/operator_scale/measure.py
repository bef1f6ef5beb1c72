"""What a running operator uses: processor, memory, requests."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.api.operator_process import OperatorProcess

_TICKS = os.sysconf("SC_CLK_TCK")
_WRITES = ("POST", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Since the process began."""

    cpu_s: float = 0.0
    rss_mb: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    """By verb; without the renewals of the Lease, and without watches, of which there is one a kind."""

    @property
    def writes(self) -> int:
        """Requests that change something."""
        return sum(self.requests[verb] for verb in _WRITES)

    @property
    def reads(self) -> int:
        """Requests that change nothing."""
        return self.requests["GET"]

    def since(self, before: Usage) -> Usage:
        """What was used since then."""
        return Usage(self.cpu_s - before.cpu_s, self.rss_mb, self.requests - before.requests)


class Meter:
    """Reads /proc and the operator's own metrics."""

    def __init__(self, operator: OperatorProcess) -> None:
        self._operator = operator

    def usage(self) -> Usage:
        """Measure now."""
        folder = Path(f"/proc/{self._operator.pid}")
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        found = re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text())
        requests: Counter[str] = Counter()
        # Once: it is not for nothing with so many queues.
        code, text = self._operator.get("/metrics", timeout_s=60)
        if code != 200:
            raise RuntimeError(f"the operator does not tell its metrics: {code} {text[:200]}")
        for labels, count in re.findall(
            r"^mq_api_requests_total\{(.*)\} (\S+)$", text, re.MULTILINE
        ):
            verb = re.search(r'verb="(\w+)"', labels)
            if verb and verb[1] != "PUT":  # the Lease is the one thing that is put
                requests[verb[1]] += int(float(count))
        return Usage(
            cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
            rss_mb=int(found[1]) / 1024 if found else 0.0,
            requests=requests,
        )
