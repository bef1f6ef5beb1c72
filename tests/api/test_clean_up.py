"""A cluster leaves nothing behind: not when its start failed, nor when whoever started it was killed.

That a whole cluster, with a node, leaves nothing either is held where its tests end.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import programs
from tests.cluster.cluster import Cluster, started, sweep
from tests.cluster.traces import leftovers

ROOT = Path(__file__).parents[2]
#: Starts a control plane, says where, and waits to be killed.
KILLED = """
import time
from tests.cluster.cluster import control_plane
with control_plane() as running:
    print(running.folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def able() -> None:
    programs.require(programs.CONTROL_PLANE_NEEDS, what="API server")


def test_a_cluster_whose_owner_was_killed_is_swept_away() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    with owner.stdout:
        left = Cluster(Path(owner.stdout.readline().strip()))
    assert left.api_is_ready()
    owner.kill()
    owner.wait()
    found = leftovers(left)
    assert len([it for it in found if it.startswith("process")]) == 2, "etcd and the API server"
    assert f"network namespace {left.namespace.name}" in found
    sweep()
    assert leftovers(left) == []


def test_a_start_that_fails_half_way_leaves_nothing() -> None:
    seen: list[Cluster] = []

    def fail(cluster: Cluster) -> None:
        seen.append(cluster)
        cluster.namespace.create()
        cluster.start_etcd()
        assert leftovers(cluster)
        raise RuntimeError("made so by a test")

    with pytest.raises(RuntimeError, match="made so"), started(fail):
        pass
    assert leftovers(seen[0]) == []
