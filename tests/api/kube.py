"""The API server as tests use it: any object by kind and name, from outside the cluster's network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import kopf

from celeriac_operator import kinds
from celeriac_operator.api import Api, ApiError, Kind
from celeriac_operator.fence import Fence
from tests.cluster.cluster import SERVER, Cluster

NAMESPACES = Kind("Namespace", "namespaces")
CRDS = Kind("CustomResourceDefinition", "customresourcedefinitions", "apiextensions.k8s.io", "v1")
Object = dict[str, Any]


def admin_api(cluster: Cluster) -> Api:
    """A client with all rights; call it in threads that are inside the cluster's network only."""
    fence = Fence()
    fence.open_until(float("inf"))

    def login() -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=SERVER, ca_path=str(cluster.folder / "ca.crt"), token="admin-token"
        )

    return Api(login, fence=fence)


class Kube:
    """One namespace of a cluster, as its admin."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._api = admin_api(cluster)

    def request(self, verb: str, path: str, body: Any = None, **options: Any) -> Object:
        """Send a request. Raises ApiError."""
        with self.cluster.namespace.entered():
            return self._api.request(verb, path, body, **options)

    def get(self, kind: Kind, name: str) -> Object:
        """Read an object. Raises LookupError when it does not exist."""
        found = self.find(kind, name)
        if found is None:
            raise LookupError(f"no {kind.name} {name}")
        return found

    def find(self, kind: Kind, name: str) -> Object | None:
        """Read an object; None when it does not exist."""
        with self.cluster.namespace.entered():
            return self._api.get(kind, self.namespace, name)

    def list(self, kind: Kind, labels: str = "") -> list[Object]:
        """Read all objects of a kind."""
        with self.cluster.namespace.entered():
            return list(self._api.list(kind, self.namespace, labels=labels))

    def create(self, kind: Kind, body: Object) -> Object:
        """Create an object."""
        body = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        path = kind.path(self.namespace) + "?fieldManager=kubectl-create"
        return self.request("POST", path, body)

    def patch(self, kind: Kind, name: str, body: Object, *, sub: str = "") -> Object:
        """Change an object, as `kubectl patch --type=merge` does."""
        path = kind.path(self.namespace, name, sub) + "?fieldManager=kubectl-edit"
        return self.request("PATCH", path, body, content="application/merge-patch+json")

    def delete(self, kind: Kind, name: str, **options: Any) -> None:
        """Delete an object; nothing happens when it is gone."""
        try:
            self.request("DELETE", kind.path(self.namespace, name), options or None)
        except ApiError as error:
            if not error.not_found:
                raise

    # --- MessageQueues --------------------------------------------------------------------------

    def declare(self, name: str, **spec: Any) -> Object:
        """Create a MessageQueue."""
        worker = {"image": "fake:1", "app": "shop.app:app", "pool": "Solo"}
        # One broker serves many tests.
        own = {"queue": self.on_broker(name)}
        spec = {**own, **spec, "worker": {**worker, **spec.get("worker", {})}}
        return self.create(kinds.QUEUES, {"metadata": {"name": name}, "spec": spec})

    def on_broker(self, name: str) -> str:
        """The name of a MessageQueue's queue on the broker."""
        return f"{name}-{self.namespace}"

    def queue(self, name: str) -> Object:
        """Read a MessageQueue."""
        return self.get(kinds.QUEUES, name)

    def condition(self, name: str, type_: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        found = self.condition_of(name, type_)
        return found["status"], found["reason"]

    def condition_of(self, name: str, type_: str) -> Object:
        """A condition. Raises LookupError while there is none."""
        for it in self.queue(name).get("status", {}).get("conditions", ()):
            if it["type"] == type_:
                return dict(it)
        raise LookupError(f"{name} has no condition {type_}")

    def is_ready(self, name: str, reason: str = "Idle") -> bool:
        """Whether a queue is Ready for this reason. Raises LookupError before it has a status."""
        return self.condition(name, "Ready") == ("True", reason)

    def message(self, name: str, type_: str) -> str:
        """What a condition tells people."""
        return str(self.condition_of(name, type_)["message"])

    def replicas(self, name: str) -> int:
        """How many workers a queue's Deployment asks for."""
        return int(self.get(kinds.DEPLOYMENTS, name)["spec"]["replicas"])

    def events(self, name: str) -> Sequence[tuple[str, str]]:
        """The type and reason of each Event of a queue, in order."""
        found = [it for it in self.list(kinds.EVENTS) if it["regarding"].get("name") == name]
        mine = [it for it in found if it["regarding"]["kind"] == kinds.QUEUES.name]
        return [(it["type"], it["reason"]) for it in sorted(mine, key=lambda it: it["eventTime"])]

    def secret(self, name: str, **data: str) -> None:
        """Create a Secret, or replace its values."""
        try:
            self.create(kinds.SECRETS, {"metadata": {"name": name}, "stringData": data})
        except ApiError as error:
            if not error.conflict:
                raise
            self.patch(kinds.SECRETS, name, {"stringData": data})

    def pods(self, queue: str) -> dict[str, Object]:
        """The pods of a queue, by name."""
        found = self.list(kinds.PODS, f"celeriac.dev/queue={queue}")
        return {it["metadata"]["name"]: it for it in found}

    def owners_of(self, kind: Kind, name: str, path: str) -> set[str]:
        """The field managers that own a field, given as `spec.replicas`."""
        owners = set()
        for entry in self.get(kind, name)["metadata"]["managedFields"]:
            fields = entry["fieldsV1"]
            for part in path.split("."):
                fields = fields.get(f"f:{part}") if isinstance(fields, dict) else None
            if fields is not None:
                owners.add(entry["manager"])
        return owners
