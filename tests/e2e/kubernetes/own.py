"""The cluster of these tests' own, furnished: our images, the broker's name, and a volume for its data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import cache, images, node
from tests.cluster.cluster import Cluster, cluster
from tests.cluster.traces import leftovers
from tests.e2e.kubernetes.harness import IMAGE, MESSAGING_IMAGE, NEXT_TAG, ROOT, TAG, VALKEY

#: The broker's address in each namespace that has one: names of services are known beforehand only.
BROKER_IPS = {"celeriac": "10.96.0.50", "upgraded": "10.96.0.51"}
#: The annotation with which our name server says so, to whoever installs a broker.
FIXED_ADDRESSES = "celeriac.dev/fixed-addresses"
TARGETS = {"celeriac": IMAGE, "messaging": MESSAGING_IMAGE}
#: What an image is made of.
_SOURCES = ("Dockerfile", "src", "operator", "pyproject.toml", "constraints.txt", "README.md")
#: When the store has so many layers, some 30 MB each in the mean, it is begun anew.
_MOST_LAYERS = 300


@contextmanager
def furnished() -> Iterator[Cluster]:
    """A cluster of our own for the length of a block, or the one that E2E_CLUSTER names."""
    if kept := os.environ.get("E2E_CLUSTER"):
        running = Cluster(Path(kept))
        _furnish(running)
        yield running
        for process in vars(running.processes)["_running"].values():
            process.returncode = 0  # it outlives us, on purpose
    else:
        before = node.kernel_settings()
        with cluster() as running:
            _furnish(running)
            yield running
        assert leftovers(running) == []
        assert node.kernel_settings() == before


def _furnish(running: Cluster) -> None:
    provide(running, ROOT, tags=(TAG, NEXT_TAG))
    names = {f"{VALKEY}.{space}.svc.cluster.local": ip for space, ip in BROKER_IPS.items()}
    node.start_dns(running, names)
    said = f"{FIXED_ADDRESSES}={json.dumps(BROKER_IPS)}"
    running.kubectl("-n", "kube-system", "annotate", "--overwrite", "service", "kube-dns", said)
    for space in BROKER_IPS:
        data = running.folder / "volumes" / space
        data.mkdir(parents=True, exist_ok=True)
        data.chmod(0o777)
        volume = _VOLUME.format(name=f"{VALKEY}-{space}", path=data)
        running.kubectl("apply", "-f", "-", stdin=volume)


_VOLUME = """\
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  hostPath: {{path: {path}}}
"""


def provide(
    running: Cluster, checkout: Path, *, tags: tuple[str, ...], targets: Mapping[str, str] = TARGETS
) -> None:
    """Give the node our images, built from a checkout, under these tags.

    What was built before is not built again: layers are kept outside the checkout, and a node that has
    an image of the same sources keeps it.
    """
    folder = cache.folder() / "e2e-images"
    folder.mkdir(parents=True, exist_ok=True)
    if len([*folder.glob("buildah/root/overlay/*")]) > _MOST_LAYERS:
        shutil.rmtree(folder / "buildah")
    built = f"sources-{_digest(checkout)}"
    there = images.ctr(running, "images", "ls", "--quiet").stdout.split()
    for target, name in targets.items():
        if f"{name}:{built}" not in there:
            archive = folder / f"{os.getpid()}-{uuid.uuid4().hex[:6]}.tar"
            images.build(checkout, target=target, tag=f"{name}:{built}", archive=archive)
            images.load(running, archive)
            archive.unlink()
        for tag in tags:
            images.ctr(running, "images", "tag", "--force", f"{name}:{built}", f"{name}:{tag}")


def _digest(checkout: Path) -> str:
    found = hashlib.sha256()
    for source in _SOURCES:
        top = checkout / source
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found.update(f"{path.relative_to(checkout)}\n".encode() + path.read_bytes())
    return found.hexdigest()[:12]
