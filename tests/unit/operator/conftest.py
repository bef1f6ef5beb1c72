"""Raw objects as the API server shows them, with only what matters to a test spelled out; and a clock."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from celeriac.spec.queue import MessageQueue

Object = dict[str, Any]


class Time:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


class Raw:
    """Makes raw objects of a queue ``mail`` in the namespace ``shop``."""

    namespace = "shop"
    name = "mail"
    uid = "uid-of-mail"

    def __init__(self) -> None:
        self._versions = itertools.count(100)

    def queue(self, *, meta: Object | None = None, **spec: Any) -> Object:
        worker = {"image": "shop:1", "app": "shop.app:app", **spec.pop("worker", {})}
        return {
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": self.uid,
                "generation": 1,
                "creationTimestamp": "2026-01-31T09:30:00Z",
                "resourceVersion": str(next(self._versions)),
                **(meta or {}),
            },
            "spec": {"worker": worker, **spec},
        }

    def child(
        self, kind: str, *, name: str = "mail", meta: Object | None = None, **body: Any
    ) -> Object:
        return {
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "uid": f"uid-of-{kind}-{name}",
                "resourceVersion": str(next(self._versions)),
                "labels": {"celeriac.dev/queue": self.name},
                "annotations": {"celeriac.dev/rendered": "r1"},
                "ownerReferences": [{"uid": self.uid, "controller": True}],
                **(meta or {}),
            },
            **body,
        }

    def deployment(self, *, replicas: int = 1, template: str = "t1", **status: Any) -> Object:
        spec = {
            "replicas": replicas,
            "template": {
                "metadata": {"labels": {"celeriac.dev/template": template}},
                "spec": {"containers": [{"name": "worker", "image": "shop:1"}]},
            },
        }
        return self.child("Deployment", spec=spec, status=status)

    def pod(
        self,
        name: str = "mail-1",
        *,
        ready: bool = True,
        template: str = "t1",
        state: Object | None = None,
        last: Object | None = None,
        restarts: int = 0,
        deleting: bool = False,
        phase: str = "Running",
        cost: str | None = None,
        conditions: tuple[Object, ...] = (),
    ) -> Object:
        running = {"running": {"startedAt": "2026-01-31T10:00:00Z"}}
        container = {
            "name": "worker",
            "restartCount": restarts,
            "state": running if state is None else state,
            "lastState": last or {},
        }
        meta: Object = {
            "labels": {"celeriac.dev/queue": self.name, "celeriac.dev/template": template}
        }
        if deleting:
            meta["deletionTimestamp"] = "2026-01-31T11:00:00Z"
        if cost is not None:
            meta["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
        status = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}, *conditions],
            "containerStatuses": [container],
        }
        return self.child("Pod", name=name, meta=meta, status=status)


@pytest.fixture
def raw() -> Raw:
    return Raw()


def declare(**spec: Any) -> MessageQueue:
    """A declared queue ``mail`` in the namespace ``shop``."""
    worker = {"image": "shop:1", "app": "shop.app:app", **spec.pop("worker", {})}
    return MessageQueue.model_validate(
        {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "MessageQueue",
            "metadata": {"name": "mail", "namespace": "shop", "uid": "uid-of-mail"},
            "spec": {"worker": worker, **spec},
        }
    )
