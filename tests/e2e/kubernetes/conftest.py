"""A real cluster with our charts in it: kubelet, containerd, the image of our Dockerfile, helm.

Started once for the whole folder. With E2E_KUBECONFIG set, that cluster is used instead (its nodes must
have the images localhost/celeriac:e2e and localhost/celeriac-messaging:e2e).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

from celeriac import Client
from celeriac.broker.connection import connect
from celeriac.broker.queue import Queue
from tests.cluster import images, node, programs
from tests.cluster.cluster import Cluster, cluster

ROOT = Path(__file__).parents[3]
NAMESPACE = "celeriac"
IMAGE, MESSAGING_IMAGE = "localhost/celeriac", "localhost/celeriac-messaging"
TAG = "e2e"
BROKER_IP = "10.96.0.50"
BROKER_NAME = f"celeriac-valkey.{NAMESPACE}.svc.cluster.local"
APP = Path(__file__).parent / "e2e_app.py"

T = TypeVar("T")


def eventually(look: Callable[[], T], *, seconds: float, what: str) -> T:
    """Look again and again until something true is seen, and return it."""
    deadline = time.monotonic() + seconds
    seen: T | None = None
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {seen!r}")


@dataclass
class Platform:
    """The cluster, with the operator and a broker in it."""

    cluster: Cluster
    folder: Path

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl("-n", NAMESPACE, *args, stdin=stdin, check=check)

    def get(self, *args: str) -> Any:
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def helm(self, *args: str) -> str:
        """Run helm in our namespace."""
        done = subprocess.run(
            [
                programs.clients() / "helm",
                "--kubeconfig",
                self.cluster.kubeconfig,
                "-n",
                NAMESPACE,
                *args,
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HELM_CACHE_HOME": str(self.folder / "helm")},
        )
        assert done.returncode == 0, f"helm {' '.join(args)}: {done.stderr}{done.stdout}"
        return done.stdout

    def broker_url(self) -> str:
        secret = self.get("secret", "celeriac-broker")
        url = base64.b64decode(secret["data"]["url"]).decode()
        return url.replace(BROKER_NAME, BROKER_IP)

    def redis(self) -> redis.Redis:
        return connect(self.broker_url())

    def queue(self, name: str) -> Queue:
        return Queue(self.redis(), name)

    def client(self) -> Client:
        return Client(self.broker_url())

    def declare(self, name: str, **spec: Any) -> None:
        """Apply a MessageQueue that runs the app of these tests."""
        worker = {
            "image": f"{IMAGE}:{TAG}",
            "app": "e2e_app:app",
            "pool": "Threads",
            "concurrency": 2,
            "drainSeconds": 60,
            "env": [{"name": "PYTHONPATH", "value": "/e2e"}],
            "podTemplate": {
                "spec": {
                    "containers": [
                        {"name": "worker", "volumeMounts": [{"name": "e2e", "mountPath": "/e2e"}]}
                    ],
                    "volumes": [{"name": "e2e", "configMap": {"name": "e2e-app"}}],
                }
            },
            **spec.pop("worker", {}),
        }
        resource = {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "MessageQueue",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "worker": worker,
                "autoscaling": {"minReplicas": 0, "maxReplicas": 5, "scaleDownDelaySeconds": 2},
                **spec,
            },
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(resource))

    def pods(self, queue: str) -> list[dict[str, Any]]:
        """The pods of a queue that are not on their way out."""
        items = self.get("pods", "-l", f"celeriac.dev/queue={queue}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def condition(self, queue: str, type_: str) -> dict[str, Any]:
        """A condition of a queue's status; empty when there is none."""
        conditions = self.get("mq", queue).get("status", {}).get("conditions", [])
        return next((it for it in conditions if it["type"] == type_), {})

    def wait_ready(self, queue: str, *, seconds: float = 60) -> None:
        """Wait until a queue works as declared."""
        eventually(
            lambda: self.condition(queue, "Ready").get("status") == "True",
            seconds=seconds,
            what=f"{queue} Ready",
        )

    def wait_done(self, queue: str, *, seconds: float = 120) -> None:
        """Wait until nothing of a queue is unfinished."""
        look = self.queue(queue)
        eventually(lambda: look.stats().unfinished == 0, seconds=seconds, what=f"{queue} empty")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Archives of our two images, built from this checkout's Dockerfile."""
    folder = tmp_path_factory.mktemp("images")
    return {
        target: images.build(
            ROOT, target=target, tag=f"{name}:{TAG}", archive=folder / f"{target}.tar"
        )
        for target, name in (("celeriac", IMAGE), ("messaging", MESSAGING_IMAGE))
    }


@pytest.fixture(scope="session")
def running_cluster(built: dict[str, Path]) -> Iterator[Cluster]:
    """A cluster of one node that has our images and serves names."""
    lacking = programs.missing({**programs.CONTROL_PLANE_NEEDS, **programs.NODE_NEEDS})
    if lacking and not os.environ.get("CI"):
        pytest.skip("no cluster here: " + "; ".join(lacking))
    with cluster() as running:
        for archive in built.values():
            images.load(running, archive)
        node.start_dns(running, {BROKER_NAME: BROKER_IP})
        yield running


@pytest.fixture(scope="session")
def platform(
    running_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """The operator and a development broker, installed as a user would."""
    platform = Platform(running_cluster, tmp_path_factory.mktemp("platform"))
    with running_cluster.namespace.entered():
        platform.helm(
            "install", "celeriac-crds", str(ROOT / "charts/celeriac-crds"), "--create-namespace"
        )
        values = {
            "image.repository": IMAGE,
            "image.tag": TAG,
            "valkey.enabled": "true",
            "valkey.clusterIP": BROKER_IP,
        }
        platform.helm(
            "install",
            "celeriac",
            str(ROOT / "charts/celeriac"),
            "--wait",
            "--timeout=120s",
            *[f"--set={name}={value}" for name, value in values.items()],
        )
        platform.kubectl("create", "configmap", "e2e-app", f"--from-file={APP}")
        yield platform


@pytest.fixture(autouse=True)
def inside(running_cluster: Cluster) -> Iterator[None]:
    """Run each test inside the cluster's network namespace."""
    with running_cluster.namespace.entered():
        yield


@pytest.fixture
def name() -> str:
    """A queue name of the test's own."""
    return f"e2e-{uuid.uuid4().hex[:8]}"
