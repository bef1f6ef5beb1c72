"""A real API server with our CRD, for what needs no pods: schema, CEL, server-side apply, RBAC."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import programs
from tests.cluster.cluster import Cluster, control_plane

CRD = Path(__file__).parents[2] / "charts/celeriac-crds/templates/messagequeues.yaml"


@pytest.fixture(scope="session")
def api() -> Iterator[Cluster]:
    """A control plane with the MessageQueue resource."""
    lacking = programs.missing(programs.CONTROL_PLANE_NEEDS)
    if lacking and not os.environ.get("CI"):
        pytest.skip("no API server here: " + "; ".join(lacking))
    with control_plane() as running:
        running.kubectl("create", "-f", str(CRD))
        running.kubectl("wait", "--for=condition=Established", "crd/messagequeues.celeriac.dev")
        yield running
