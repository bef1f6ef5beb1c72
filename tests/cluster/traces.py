"""What a cluster leaves on the machine while it runs, and must not leave when it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import node
from tests.cluster.processes import all_that_mention

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster


def leftovers(stopped: Cluster) -> list[str]:
    """What a cluster that was stopped has left on this machine, but should not have."""
    folder, name = stopped.folder, stopped.namespace.name
    found = [f"the folder {folder}"] if folder.exists() else []
    found += [f"process {pid}" for pid in all_that_mention(folder)]
    mounts = Path("/proc/mounts").read_text().splitlines()
    found += [f"mount {it.split()[1]}" for it in mounts if str(folder) in it or name in it]
    found += [f"cgroup {it}" for it in node.cgroups(name) if it.exists()]
    if Path("/run/netns", name).exists():
        found.append(f"network namespace {name}")
    return found
