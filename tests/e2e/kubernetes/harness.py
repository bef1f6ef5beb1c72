"""The platform as a user has installed it, and the questions that tests ask of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis

from celeriac import Client
from celeriac.broker.connection import connect
from celeriac.broker.queue import Queue
from tests.e2e.kubernetes import ledger, sites
from tests.e2e.kubernetes.ledger import Ledger
from tests.e2e.kubernetes.sites import Site
from tests.e2e.kubernetes.waiting import eventually

ROOT = Path(__file__).parents[3]
IMAGE, MESSAGING_IMAGE = "localhost/celeriac", "localhost/celeriac-messaging"
#: The images under test, and a second name of the first for upgrades of workers.
TAG, NEXT_TAG = "e2e", "e2e-next"
APP = Path(__file__).parent / "e2e_app.py"
VALKEY = "celeriac-valkey"

Object = dict[str, Any]


@dataclass
class Platform:
    """One installation of the operator, with its broker, in one namespace."""

    site: Site
    folder: Path
    """For files of the tests."""
    namespace: str = "celeriac"
    image: str = f"{IMAGE}:{TAG}"

    # --- Kubernetes -----------------------------------------------------------------------------

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in our namespace."""
        return self.site.kubectl("-n", self.namespace, *args, stdin=stdin, check=check)

    def get(self, *args: str) -> Any:
        """Run `kubectl get ... -o json` in our namespace."""
        return sites.get(self.site, "-n", self.namespace, *args)

    def apply(self, *resources: Mapping[str, Any]) -> None:
        """Apply resources."""
        document = {"apiVersion": "v1", "kind": "List", "items": resources}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(document))

    def patch(self, kind: str, name: str, body: Mapping[str, Any]) -> None:
        """Change some fields, as `kubectl patch --type=merge`."""
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(body))

    def exists(self, kind: str, name: str) -> bool:
        """Whether an object is there."""
        return bool(self.kubectl("get", kind, name, "--ignore-not-found", "-o", "name").strip())

    def helm(self, *args: str) -> str:
        """Run helm in our namespace."""
        return sites.helm(self.site, self.namespace, *args, cache=self.folder / "helm")

    def secret(self, name: str) -> dict[str, str]:
        """The values of a Secret."""
        data = self.get("secret", name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    # --- the broker and the ledger --------------------------------------------------------------

    def broker_url(self) -> str:
        """The broker, as this process reaches it."""
        url = urlsplit(self.secret("celeriac-broker")["url"])
        host, port = self.site.address(self.namespace, VALKEY, 6379)
        netloc = url.netloc.rpartition("@")[0] + f"@{host}:{port}"
        return urlunsplit(url._replace(netloc=netloc))

    def connect(self) -> redis.Redis:
        """A connection to the broker, with short time limits."""
        return connect(self.broker_url(), socket_timeout=10, socket_connect_timeout=5)

    def queue(self, name: str) -> Queue:
        """A queue on the broker."""
        return Queue(self.connect(), name)

    def client(self) -> Client:
        """A producer, when the broker can be reached: an outage of another test may just be over."""
        eventually(lambda: self.connect().ping(), seconds=60, what="the broker answers")
        return Client(self.broker_url())

    @cached_property
    def ledger(self) -> Ledger:
        """What jobs have noted."""
        address = self.get("service", ledger.NAME)["spec"]["clusterIP"]
        return Ledger(f"redis://{address}:{ledger.PORT}/0", self._ledger_client)

    def _ledger_client(self) -> redis.Redis:
        host, port = self.site.address(self.namespace, ledger.NAME, ledger.PORT)
        return redis.Redis(host=host, port=port, socket_timeout=10)

    # --- queues ---------------------------------------------------------------------------------

    def message_queue(self, name: str, **spec: Any) -> Object:
        """A MessageQueue that runs the app of these tests."""
        given = spec.pop("worker", {})
        worker = {
            "image": self.image,
            "app": "e2e_app:app",
            "pool": "Threads",
            "concurrency": 2,
            "drainSeconds": 60,
            **given,
            "env": [
                {"name": "PYTHONPATH", "value": "/e2e"},
                {"name": "E2E_LEDGER", "value": self.ledger.url},
                *given.get("env", []),
            ],
            "podTemplate": {
                "spec": {
                    "containers": [
                        {"name": "worker", "volumeMounts": [{"name": "e2e", "mountPath": "/e2e"}]}
                    ],
                    "volumes": [{"name": "e2e", "configMap": {"name": "e2e-app"}}],
                }
            },
        }
        scaling = {"minReplicas": 0, "maxReplicas": 4, "scaleDownDelaySeconds": 2}
        return {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "MessageQueue",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "worker": worker,
                **spec,
                "autoscaling": {**scaling, **spec.get("autoscaling", {})},
            },
        }

    def declare(self, name: str, **spec: Any) -> None:
        """Apply a MessageQueue that runs the app of these tests."""
        self.apply(self.message_queue(name, **spec))

    def pods(self, queue: str, *, leaving: bool = False) -> list[Object]:
        """The pods of a queue; with ``leaving`` also those on their way out."""
        items = self.get("pods", "-l", f"celeriac.dev/queue={queue}")["items"]
        return [it for it in items if leaving or "deletionTimestamp" not in it["metadata"]]

    def ready_pods(self, queue: str) -> list[Object]:
        """Those of a queue's pods that are ready."""
        return [it for it in self.pods(queue) if is_ready(it)]

    def condition(self, queue: str, type_: str) -> Object:
        """A condition of a queue's status; empty when there is none."""
        conditions = self.get("mq", queue).get("status", {}).get("conditions", [])
        return next((it for it in conditions if it["type"] == type_), {})

    def wait_unreachable(self, name: str) -> None:
        """Wait until the status of a queue says that its broker is away."""
        eventually(
            lambda: self.condition(name, "BrokerReachable").get("status") == "False",
            seconds=30,
            what=f"the status of {name} says that there is no broker",
        )

    def wait_ready(self, queue: str, *, seconds: float = 60) -> None:
        """Wait until the newest declaration of a queue is what runs."""

        def look() -> bool:
            found = self.get("mq", queue)
            status = found.get("status", {})
            said = {it["type"]: it["status"] for it in status.get("conditions", [])}
            return bool(
                status.get("observedGeneration") == found["metadata"]["generation"]
                and said.get("Ready") == "True"
                and said.get("Reconciling") == said.get("Stalled") == "False"
            )

        eventually(look, seconds=seconds, what=f"{queue} Ready")

    def wait_pods(self, queue: str, count: int, *, seconds: float = 60) -> None:
        """Wait until exactly so many pods are ready, and none is leaving."""
        eventually(
            lambda: len(self.ready_pods(queue)) == len(self.pods(queue, leaving=True)) == count,
            seconds=seconds,
            what=f"{count} pods of {queue}",
        )

    def wait_done(self, queue: str, *, seconds: float = 120) -> None:
        """Wait until nothing of a queue is unfinished."""
        look = self.queue(queue)
        eventually(lambda: look.stats().unfinished == 0, seconds=seconds, what=f"{queue} empty")

    # --- the operator ---------------------------------------------------------------------------

    def leader(self) -> str:
        """The pod that holds the Lease; empty when nobody does."""
        return str(self.get("lease", "celeriac")["spec"].get("holderIdentity") or "")

    def operators(self) -> list[Object]:
        """The operator's pods that are not on their way out."""
        items = self.get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
        return [it for it in items if "deletionTimestamp" not in it["metadata"]]


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready."""
    conditions = pod["status"].get("conditions", [])
    return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)


def lives(pods: list[Object]) -> dict[str, int]:
    """Restarts of each pod: equal before and after when nobody was disturbed."""
    return {
        it["metadata"]["uid"]: sum(c["restartCount"] for c in it["status"]["containerStatuses"])
        for it in pods
    }
