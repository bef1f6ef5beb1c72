"""From the previous release to this one, charts and image, while queues are busy: nothing is lost.

The previous release is the newest tag, or the commit before this one; E2E_FROM names another.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from celeriac_messaging.payloads import Indexing
from celeriac_messaging.service import MessageQueueService
from tests.cluster.cluster import Cluster
from tests.e2e.kubernetes.faults import no_operator
from tests.e2e.kubernetes.harness import IMAGE, MESSAGING_IMAGE, ROOT, TAG, Platform
from tests.e2e.kubernetes.installing import furnish, install, install_crds
from tests.e2e.kubernetes.load import Load
from tests.e2e.kubernetes.own import provide
from tests.e2e.kubernetes.waiting import eventually

OLD_TAG = "e2e-previous"


@pytest.fixture(scope="module")
def previous(own_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the previous release; its image is on the node.

    Built before the test enters the cluster's network, from which no registry can be reached.
    """
    release = os.environ.get("E2E_FROM") or _git("describe", "--tags", "--abbrev=0", "HEAD~1")
    release = release or _git("rev-parse", "HEAD~1")
    if not release and not os.environ.get("CI"):
        pytest.skip("no previous release: this is no git checkout, or one without history")
    assert release, "no previous release: fetch more than one commit"
    folder = tmp_path_factory.mktemp("previous")
    packed = subprocess.run(
        ["git", "archive", release], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    provide(own_cluster, folder, tags=(OLD_TAG,), targets={"celeriac": IMAGE})
    return folder


@pytest.fixture
def upgraded(platform: Platform, previous: Path) -> Iterator[Platform]:
    """The previous release in a namespace of its own, looking after that alone, and nobody else at work."""
    other = dataclasses.replace(platform, namespace="upgraded", image=f"{IMAGE}:{OLD_TAG}")
    with no_operator(platform):
        install(other, previous, **_VALUES)
        furnish(other)
        yield other
        platform.kubectl("delete", "namespace", other.namespace, "--wait=false")
        install_crds(platform, ROOT)


_VALUES = {"operator__watchNamespaces": "{upgraded}", "rbac__aggregate": "false"}


def test_an_upgrade_of_the_charts_under_load_loses_nothing(
    upgraded: Platform, previous: Path, name: str
) -> None:
    _install_messaging(upgraded, previous)
    scaling = {"minReplicas": 2, "maxReplicas": 2}
    upgraded.declare(name, autoscaling=scaling)
    upgraded.wait_pods(name, 2)
    upgraded.wait_ready(name)
    _index(upgraded, "old")
    with Load(upgraded.client(), name) as load:
        eventually(lambda: upgraded.ledger.finished(name), seconds=60, what="the first job done")
        new = dataclasses.replace(upgraded, image=f"{IMAGE}:{TAG}")
        install(new, ROOT, **_VALUES)
        _install_messaging(new, ROOT)
        assert {it["spec"]["containers"][0]["image"] for it in new.operators()} == {new.image}
        new.declare(name, autoscaling=scaling)
        eventually(
            lambda: (
                {it["spec"]["containers"][0]["image"] for it in new.ready_pods(name)} == {new.image}
            ),
            seconds=90,
            what="workers with the new image",
        )
        sent = len(load.accepted)
        eventually(lambda: len(load.accepted) > sent + 20, seconds=60, what="more load")
    _index(new, "new")
    new.wait_done(name)
    new.ledger.check(name, load.accepted)
    new.wait_ready(name)
    new.wait_done("message-indexing")
    for queue, count in ((name, len(load.accepted)), ("message-indexing", 40)):
        stats = new.queue(queue).stats()
        assert (stats.accepted, stats.done, stats.imbalance) == (count, count, 0)


def _install_messaging(platform: Platform, checkout: Path) -> None:
    image = f"image.repository={MESSAGING_IMAGE},image.tag={TAG}"
    chart = str(checkout / "charts/messaging")
    platform.helm("upgrade", "--install", "messaging", chart, f"--set={image}")


def _index(platform: Platform, prefix: str) -> None:
    """Send real jobs of the messaging application."""
    service = MessageQueueService(platform.client())
    jobs = [Indexing(tenant="e2e", message_id=f"{prefix}-{n}", text="hello") for n in range(20)]
    assert service.index_many(jobs).accepted == 20


def _git(*args: str) -> str:
    done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
