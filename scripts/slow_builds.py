"""Build what tests need and takes minutes, before any test's clock runs. Built once, then cached.

Where a cluster cannot run at all, nothing is built: the tests that need one skip themselves, and
say why.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cluster import programs


def main() -> None:
    """Build the Kubernetes servers and unpack their clients, unless they are there."""
    if not programs.missing(programs.CONTROL_PLANE_NEEDS):
        programs.kubernetes()
        programs.clients()


if __name__ == "__main__":
    main()
