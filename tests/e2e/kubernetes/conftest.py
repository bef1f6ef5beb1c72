"""A real cluster with our charts in it: kubelet, containerd, the images of our Dockerfile, helm.

Started once for the whole folder. Two variables change that:

E2E_KUBECONFIG  a cluster of yours, whose nodes have the images of `harness.py` (`kind load image-archive`);
                tests that stop processes of the cluster are left out there
E2E_CLUSTER     the folder of a cluster that `make cluster` has started; it is left running
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.cluster import programs
from tests.cluster.cluster import Cluster
from tests.e2e.kubernetes import report
from tests.e2e.kubernetes.harness import ROOT, Platform
from tests.e2e.kubernetes.installing import furnish, install
from tests.e2e.kubernetes.own import furnished
from tests.e2e.kubernetes.sites import OwnSite, Site, UserSite


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder time for the cluster's start, which counts for the first of them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(480))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say what the operator, the workers and the cluster said, when a test has failed."""
    made = yield
    fixtures = getattr(item, "funcargs", {})
    if made.failed and (site := fixtures.get("site")) is not None:
        platform = fixtures.get("platform") or Platform(site, Path())
        made.sections.extend(report.sections(platform, str(fixtures.get("name", ""))))
    return made


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    """The cluster."""
    if given := os.environ.get("E2E_KUBECONFIG"):
        theirs = UserSite(Path(given))
        yield theirs
        theirs.close()
        return
    programs.require({**programs.CONTROL_PLANE_NEEDS, **programs.NODE_NEEDS}, what="cluster")
    with furnished() as running:
        yield OwnSite(running)


@pytest.fixture(scope="package")
def platform(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The operator and a development broker, installed as a user would, and our app and ledger."""
    platform = Platform(site, tmp_path_factory.mktemp("platform"))
    with site.entered():
        install(platform, ROOT)
        furnish(platform)
    # Outside again: the rest of the session has nothing to do with the cluster's network.
    return platform


@pytest.fixture(scope="package")
def own_cluster(site: Site) -> Cluster:
    """The cluster as something that may be broken."""
    if site.own is None:
        pytest.skip("E2E_KUBECONFIG: the processes of your cluster are left alone")
    return site.own


@pytest.fixture(autouse=True)
def inside(site: Site) -> Iterator[None]:
    """Run each test where the services can be reached."""
    with site.entered():
        yield


@pytest.fixture
def name(platform: Platform) -> Iterator[str]:
    """A queue name of the test's own; queues whose names begin with it go with the test."""
    own = f"e2e-{uuid.uuid4().hex[:8]}"
    yield own
    listed = platform.kubectl("get", "mq", "-o", "name", check=False).split()
    if mine := [it for it in listed if it.partition("/")[2].startswith(own)]:
        platform.kubectl("delete", *mine, "--wait=false", check=False)
