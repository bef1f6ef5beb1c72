"""A kubelet that runs nothing: pods become ready, end and restart as a test wants, through the real API.

It binds pods to a node of its own, writes their status, and confirms their end, as a kubelet does. Workers
"run" as names: what a worker would call itself on the broker is known of every pod.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from celeriac_operator import kinds
from celeriac_operator.api import ApiError, Kind
from tests.api.kube import admin_api
from tests.cluster.cluster import Cluster

NODE = "fake"
NODES = Kind("Node", "nodes")
_STEP_S = 0.1
_HEARTBEAT_S = 10.0


@dataclass
class FakePod:
    """What this kubelet knows of a pod."""

    namespace: str
    name: str
    uid: str
    began: int = 0
    restarts: int = 0
    ready: bool = False
    ready_at: float = 0.0
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def worker(self) -> str:
        """The worker's name on the broker."""
        return f"{self.name}:{self.began}"


class FakeKubelet:
    """Runs in a thread inside the cluster's network."""

    def __init__(
        self, cluster: Cluster, *, namespace: str | None = None, step_s: float = _STEP_S
    ) -> None:
        self.cluster = cluster
        self.hold_starts = False
        """Whether new pods stay unready."""
        self.hold_ends = False
        """Whether pods that are being deleted go on."""
        self.start_s = 0.3
        """How long a container takes to become ready."""
        self.waiting: dict[str, str] = {}
        """Why the containers of a queue's pods cannot start, by queue."""
        self._api = admin_api(cluster)
        self._namespace = namespace
        self._step_s = step_s
        self._pods: dict[str, FakePod] = {}
        self._kills: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._beat_at = 0.0
        self.errors: list[str] = []
        self._thread = threading.Thread(target=self._run, name="fake-kubelet", daemon=True)

    def start(self) -> None:
        """Make the node, and begin."""
        with self.cluster.namespace.entered():
            body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
            try:
                self._api.request("POST", NODES.path(None), body)
            except ApiError as error:
                if not error.conflict:
                    raise
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(10)

    def kill(self, pod: str) -> None:
        """Let a pod's container die, as of SIGKILL; it is started again."""
        with self._lock:
            self._kills.add(pod)

    def pods(self) -> dict[str, FakePod]:
        """The pods that exist, by name."""
        with self._lock:
            return {pod.name: pod for pod in self._pods.values()}

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        with self.cluster.namespace.entered():
            while not self._stop.wait(self._step_s):
                try:
                    self._step()
                except (ApiError, OSError) as error:
                    self.errors.append(str(error))

    def _step(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._heartbeat()
            self._beat_at = time.monotonic() + _HEARTBEAT_S
        listed = {it["metadata"]["uid"]: it for it in self._api.list(kinds.PODS, self._namespace)}
        with self._lock:
            self._pods = {uid: pod for uid, pod in self._pods.items() if uid in listed}
        for uid, raw in listed.items():
            try:
                self._look(uid, raw)
            except ApiError as error:
                if not (error.not_found or error.conflict):
                    raise

    def _heartbeat(self) -> None:
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "Fake",
            "lastHeartbeatTime": _now(),
            "lastTransitionTime": _now(),
        }
        room = {"cpu": "1000", "memory": "4000Gi", "pods": "10000"}
        status = {"conditions": [condition], "capacity": room, "allocatable": room}
        self._patch(NODES, None, NODE, {"status": status}, sub="status")
        self._patch(NODES, None, NODE, {"spec": {"taints": None}})

    def _look(self, uid: str, raw: dict[str, Any]) -> None:
        meta, spec = raw["metadata"], raw["spec"]
        if not spec.get("nodeName"):
            if "deletionTimestamp" not in meta:
                self._bind(meta)
            return
        if spec["nodeName"] != NODE:
            return
        pod = self._pods.get(uid)
        if pod is None:
            pod = FakePod(meta["namespace"], meta["name"], uid)
            with self._lock:
                self._pods[uid] = pod
        if "deletionTimestamp" in meta:
            if not self.hold_ends:
                self._end(pod)
            return
        self._run_container(pod, (meta.get("labels") or {}).get("celeriac.dev/queue", ""))

    def _run_container(self, pod: FakePod, queue: str) -> None:
        if reason := self.waiting.get(queue):
            state = {"waiting": {"reason": reason, "message": f"made so by a test: {reason}"}}
            if not pod.last.get("waiting"):
                self._write(pod, state, ready=False)
                pod.last = state
            return
        with self._lock:
            killed = pod.name in self._kills
            self._kills.discard(pod.name)
        if killed:
            ended = {"exitCode": 137, "reason": "Error", "startedAt": _time(pod.began)}
            ended["finishedAt"] = _now()
            pod.restarts += 1
            time.sleep(1.1)  # times in the API are whole seconds
            pod.began = int(time.time())
            state = {"running": {"startedAt": _time(pod.began)}}
            self._write(pod, state, ready=not self.hold_starts, ended=ended)
            pod.ready, pod.last = not self.hold_starts, state
        elif not pod.began:
            pod.began, pod.ready_at = int(time.time()), time.monotonic() + self.start_s
            pod.last = {"running": {"startedAt": _time(pod.began)}}
            self._write(pod, pod.last, ready=False)
        elif not pod.ready and not self.hold_starts and time.monotonic() >= pod.ready_at:
            pod.ready = True
            self._write(pod, pod.last, ready=True)

    def _write(
        self,
        pod: FakePod,
        state: dict[str, Any],
        *,
        ready: bool,
        ended: dict[str, Any] | None = None,
        phase: str = "Running",
    ) -> None:
        container = {
            "name": "worker",
            "image": "fake",
            "imageID": "fake",
            "restartCount": pod.restarts,
            "ready": ready,
            "state": state,
            "lastState": {"terminated": ended} if ended else {},
        }
        conditions = [
            {"type": type_, "status": "True" if ready else "False", "lastTransitionTime": _now()}
            for type_ in ("Ready", "ContainersReady")
        ]
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": _now()})
        status = {
            "phase": "Pending" if "waiting" in state else phase,
            "conditions": conditions,
            "containerStatuses": [container],
            "startTime": _now(),
        }
        self._patch(kinds.PODS, pod.namespace, pod.name, {"status": status}, sub="status")

    def _end(self, pod: FakePod) -> None:
        ended = {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": _now()}}
        if pod.began:
            self._write(pod, ended, ready=False)
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        self._api.delete(kinds.PODS, pod.namespace, pod.name, options)

    def _bind(self, meta: dict[str, Any]) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        }
        path = kinds.PODS.path(meta["namespace"], meta["name"], "binding")
        self._api.request("POST", path, body)

    def _patch(
        self, kind: Kind, namespace: str | None, name: str, body: Any, *, sub: str = ""
    ) -> None:
        path = kind.path(namespace, name, sub)
        self._api.request("PATCH", path, body, content="application/merge-patch+json")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
