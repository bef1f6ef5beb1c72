"""The image that our Dockerfile makes: small, without tools to build with, and for whatever uid there is."""

from __future__ import annotations

import json
import tarfile

from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.e2e.kubernetes.harness import MESSAGING_IMAGE, TAG, Platform
from tests.e2e.kubernetes.waiting import eventually

MOST_BYTES = 200_000_000
#: An arbitrary user in no group that the image knows, as OpenShift gives to each namespace.
UID, GID = 1_000_730_001, 1_000_730_002


def test_it_adds_little_to_its_base(platform: Platform, own_cluster: Cluster) -> None:
    with tarfile.open(images.base()) as archive:
        listed = archive.extractfile("manifest.json")
        assert listed is not None
        of_the_base = len(json.load(listed)[0]["Layers"])
    for image in (platform.image, f"{MESSAGING_IMAGE}:{TAG}"):
        layers = _layers(own_cluster, image)
        assert len(layers) > of_the_base
        added = sum(layers[of_the_base:])
        assert 1_000_000 < added < MOST_BYTES, f"{image}: {added / 1e6:.0f} MB over its base"


def test_a_worker_runs_as_any_user(platform: Platform, name: str) -> None:
    platform.declare(name, autoscaling={"maxReplicas": 1})
    user = {"securityContext": {"runAsUser": UID, "runAsGroup": GID}}
    platform.patch("mq", name, {"spec": {"worker": {"podTemplate": {"spec": user}}}})
    platform.wait_ready(name)
    platform.client().send(name, "e2e.work", args=(name, 1, 5.0))
    (pod,) = eventually(lambda: platform.ready_pods(name), seconds=60, what="a worker")

    asked = (
        "import os, shutil; print(os.getuid(), os.getgid(), "
        "*filter(shutil.which, ('cc', 'gcc', 'make', 'git')))"
    )
    said = platform.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", asked)
    assert said.split() == [str(UID), str(GID)]
    platform.wait_done(name)
    platform.ledger.check(name, [1])


def _layers(cluster: Cluster, image: str) -> list[int]:
    """The sizes of an image's layers in bytes, unpacked, from the base upwards."""
    (row,) = images.ctr(cluster, "images", "ls", f"name=={image}").stdout.splitlines()[1:]
    digest = row.split()[2]
    manifest = json.loads(images.ctr(cluster, "content", "get", digest).stdout)
    return [int(layer["size"]) for layer in manifest["layers"]]
