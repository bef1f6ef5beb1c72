"""Helm, and a real API server for what only that can judge."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.charts import Helm
from tests.chart.server import Server
from tests.cluster import programs
from tests.cluster.cluster import control_plane
from tests.programs import program


@pytest.fixture(scope="package")
def helm_program() -> Path:
    """Helm: on Linux the one that a Python package carries, elsewhere the machine's own."""
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return programs.clients() / "helm"
    return Path(program("helm"))


@pytest.fixture(scope="package")
def helm(helm_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster, and without a user's settings."""
    home = str(tmp_path_factory.mktemp("helm"))
    names = ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")
    # Without a home it would keep what it discovers in the working directory.
    environment = {"PATH": os.environ["PATH"], "HOME": home, **dict.fromkeys(names, home)}
    return Helm((str(helm_program),), environment)


@pytest.fixture(scope="package")
def server(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An API server on which the resource's chart is installed, and nothing runs."""
    programs.require(programs.CONTROL_PLANE_NEEDS, what="API server")
    with control_plane() as running:
        yield Server.prepared(running, helm, tmp_path_factory.mktemp("server"))
