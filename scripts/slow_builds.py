"""Build what tests need and takes minutes, before any test's clock runs. Built once, then cached.

Where a cluster cannot run at all, nothing is built: the tests that need one skip themselves, and
say why.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cluster import images, keda, programs


def main() -> None:
    """Build the Kubernetes servers, their clients, KEDA and a base image, unless they are there."""
    if programs.missing(programs.CONTROL_PLANE_NEEDS):
        return
    programs.kubernetes()
    programs.clients()
    keda.programs()
    if not programs.missing(programs.NODE_NEEDS):
        images.base()


if __name__ == "__main__":
    main()
