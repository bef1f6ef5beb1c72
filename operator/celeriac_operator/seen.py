"""What the operator keeps of an object that the API server showed: the few things that it decides on. Pure.

    raw object -> QueueSeen | DeploymentSeen | PodSeen | ChildSeen

Two views are equal when nothing changed that matters here; the resource version is compared apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from celeriac_operator.resources import Object, names
from celeriac_operator.resources.rendering import digest

#: Namespace and name of a MessageQueue.
Key = tuple[str, str]

#: Waits of a container that do not end by themselves.
HOPELESS = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
)
#: So many failures in a row count as stalled; a hopeless wait counts as so many at once.
HOPELESS_FAILURES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What every object has."""

    namespace: str
    name: str
    uid: str
    queue: Key
    """The MessageQueue that it belongs to, or is."""
    owner: str = ""
    """The uid of its controller."""
    deleting: bool = False
    version: int = field(default=0, compare=False)
    """The resource version: greater means newer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSeen(Seen):
    """A MessageQueue as stored, checked by nobody but the API server."""

    created: str
    generation: int
    queue_name: str
    hands_off: bool
    finalizers: tuple[str, ...]
    deletion_time: str
    metadata: Object
    spec: Object
    status: Object | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSeen(Seen):
    """An object that the operator applied."""

    rendered: str
    """Digest of what was applied, as annotated."""
    essence: str
    """Digest of what stands there now, without what others own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSeen(ChildSeen):
    """The Deployment of a queue's workers."""

    replicas: int
    template: str
    """Digest of its pod template, as labelled."""
    mode: str
    """The autoscaling mode that it was applied for."""
    refusal: str
    """Why it cannot make pods (quota, admission); empty when it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen(Seen):
    """A worker's pod."""

    template: str
    ready: bool
    over: bool
    """It ended and will not start again."""
    cost: int
    """Its pod-deletion-cost."""
    restarts: int
    waiting: str
    """Why its container waits, if it died or cannot start; CamelCase."""
    failure: str
    """Why its container ended last, or cannot start, for people."""
    since: float
    """Whatever ran in it before this time (seconds since 1970) is dead."""
    ended: bool
    """Nothing runs in it, as its kubelet has confirmed."""


def queue_seen(raw: Object) -> QueueSeen:
    """View a MessageQueue."""
    meta, spec = raw["metadata"], raw.get("spec") or {}
    key = (meta["namespace"], meta["name"])
    kept = ("name", "namespace", "labels", "annotations", "generation", "uid")
    return QueueSeen(
        **_common(meta, key),
        created=meta.get("creationTimestamp", ""),
        generation=meta.get("generation", 0),
        queue_name=str(spec.get("queue") or meta["name"]),
        hands_off=(meta.get("annotations") or {}).get(names.PAUSED) == "true",
        finalizers=tuple(meta.get("finalizers") or ()),
        deletion_time=meta.get("deletionTimestamp", ""),
        metadata={name: meta[name] for name in kept if name in meta},
        spec=spec,
        status=raw.get("status"),
    )


def child_seen(raw: Object) -> ChildSeen:
    """View a ConfigMap, a PodDisruptionBudget and so on."""
    return ChildSeen(**_child(raw))


def deployment_seen(raw: Object) -> DeploymentSeen:
    """View a Deployment."""
    spec = raw["spec"]
    failed = [
        it.get("message", "")
        for it in raw.get("status", {}).get("conditions") or ()
        if it["type"] == "ReplicaFailure" and it["status"] == "True"
    ]
    return DeploymentSeen(
        **_child(raw),
        replicas=spec.get("replicas", 1),
        template=(spec["template"]["metadata"].get("labels") or {}).get(names.TEMPLATE, ""),
        mode=(raw["metadata"].get("annotations") or {}).get(names.MODE, ""),
        refusal=failed[0] if failed else "",
    )


def pod_seen(raw: Object, *, container: str) -> PodSeen:
    """View a pod; ``container`` is the worker's."""
    meta, status = raw["metadata"], raw.get("status") or {}
    labels = meta.get("labels") or {}
    states = status.get("containerStatuses") or []
    own: Object = next((it for it in states if it["name"] == container), {})
    conditions = {it["type"]: it for it in status.get("conditions") or ()}
    over = status.get("phase") in ("Succeeded", "Failed")
    waiting, failure = _trouble(own, conditions)
    return PodSeen(
        **_common(meta, (meta["namespace"], labels.get(names.QUEUE_LABEL, ""))),
        template=labels.get(names.TEMPLATE, ""),
        ready=conditions.get("Ready", {}).get("status") == "True" and not over,
        over=over,
        cost=_number((meta.get("annotations") or {}).get(names.DELETION_COST, "0")),
        restarts=own.get("restartCount", 0),
        waiting=waiting,
        failure=failure,
        since=_alive_since(own),
        ended=over or not own or "running" not in (own.get("state") or {}),
    )


def still_hopeless(before: Seen | None, seen: Seen) -> Seen:
    """The same pod after a wait of the kubelet that changed nothing.

    An image that cannot be pulled is called ImagePullBackOff and ErrImagePull by turns.
    """
    if (
        isinstance(before, PodSeen)
        and isinstance(seen, PodSeen)
        and (before.uid, before.waiting, seen.waiting)
        == (seen.uid, "ImagePullBackOff", "ErrImagePull")
    ):
        return replace(seen, waiting=before.waiting, failure=before.failure)
    return seen


def controller(meta: Object) -> str:
    """The uid of an object's controller; empty when it has none."""
    owners = meta.get("ownerReferences") or ()
    return next((str(it["uid"]) for it in owners if it.get("controller")), "")


def _common(meta: Object, key: Key) -> dict[str, Any]:
    return {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
        "queue": key,
        "owner": controller(meta),
        "deleting": "deletionTimestamp" in meta,
        "version": int(meta.get("resourceVersion") or 0),
    }


def _child(raw: Object) -> dict[str, Any]:
    meta = raw["metadata"]
    labels = meta.get("labels") or {}
    annotations = meta.get("annotations") or {}
    body: Object = {part: raw[part] for part in ("spec", "data", "type") if part in raw}
    if raw.get("kind") == "Deployment" or "template" in body.get("spec", {}):
        # Not ours: whoever scales writes it.
        spec: Object = body["spec"]
        body["spec"] = {name: it for name, it in spec.items() if name != "replicas"}
    essence = {
        **body,
        "labels": labels,
        "owner": controller(meta),
        "rendered": annotations.get(names.RENDERED, ""),
    }
    return {
        **_common(meta, (meta["namespace"], labels.get(names.QUEUE_LABEL, ""))),
        "rendered": annotations.get(names.RENDERED, ""),
        "essence": digest(essence),
    }


def _trouble(own: Object, conditions: dict[str, Object]) -> tuple[str, str]:
    """Why the container does not run, in one word and for people."""
    state = own.get("state") or {}
    ended = state.get("terminated") or (own.get("lastState") or {}).get("terminated")
    last = _ending(ended) if ended else ""
    if wait := state.get("waiting"):
        reason = wait.get("reason", "")
        if reason in HOPELESS or reason == "ErrImagePull":
            return reason, f"{reason}: {wait.get('message', '')}".rstrip(": ")[:1000]
        return (reason, last or wait.get("message", "")) if ended else ("", "")
    if state.get("terminated"):
        return "Terminated", last
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return "", f"{scheduled.get('reason', '')}: {scheduled.get('message', '')}"[:1000]
    return "", last


def _ending(ended: Object) -> str:
    code, number = ended.get("exitCode", 0), ended.get("signal", 0)
    killed = number or (code - 128 if code > 128 else 0)
    how = {6: " (SIGABRT)", 9: " (SIGKILL)", 11: " (SIGSEGV)", 15: " (SIGTERM)"}.get(killed, "")
    reason = ended.get("reason", "")
    text = f"ended with {code}{how}" + (f", {reason}" if reason not in ("", "Error") else "")
    message = ended.get("message", "").strip()
    return f"{text}: {message[-800:]}" if message else text


def _alive_since(own: Object) -> float:
    """When what runs now began, or what ran last ended: whatever began before that is dead."""
    state = own.get("state") or {}
    if running := state.get("running"):
        return _time(running.get("startedAt"))
    ended = state.get("terminated") or (own.get("lastState") or {}).get("terminated") or {}
    return _time(ended.get("finishedAt"))


def _time(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _number(text: str) -> int:
    return int(text) if text.lstrip("-").isdigit() else 0
