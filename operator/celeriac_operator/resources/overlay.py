"""Lays a queue's own pod template over the platform's, as Kubernetes merges pod specs. Pure.

Maps merge by key. A list whose items have an identity in Kubernetes merges by that; every other list is
replaced. Nothing is lost on the way: two items of the queue's own that are one to Kubernetes both stay, so
that the API server refuses them and somebody is told. Of things that exclude one another the queue's counts.
"""

from __future__ import annotations

from typing import Any

#: What tells the items of a list in a PodSpec apart: the API's own list-map keys.
IDENTITY = {
    "claims": ("name",),
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ports": ("containerPort", "protocol"),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_DEFAULTS = {"protocol": "TCP"}
#: Replaced as a whole in Kubernetes. Here a worker would then be left without its options.
ADDED_TO = ("envFrom",)
_EITHER_OR = (
    frozenset({"value", "valueFrom"}),
    frozenset({"configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef"}),
    frozenset({"exec", "grpc", "httpGet", "tcpSocket"}),
)


def lay_over(own: Any, over: Any, field: str = "") -> Any:
    """Merge two values of a field of a PodSpec, or two PodSpecs; null takes away what was there."""
    if isinstance(own, dict) and isinstance(over, dict):
        kept = {name: it for name, it in own.items() if name not in _given_up(over)}
        laid = {name: lay_over(kept.get(name), it, name) for name, it in over.items()}
        return {name: it for name, it in {**kept, **laid}.items() if it is not None}
    if isinstance(own, list) and isinstance(over, list):
        if field in ADDED_TO:
            return [*own, *over]
        if field in IDENTITY:
            return _merged(own, over, field)
    return over


def _merged(own: list[Any], over: list[Any], field: str) -> list[Any]:
    left = list(over)
    merged = []
    for item in own:
        mine = _identity(item, field)
        found = next((it for it in left if mine is not None and _identity(it, field) == mine), None)
        if found is not None:
            left.remove(found)
            item = lay_over(_retained(item, found) if field == "volumes" else item, found)  # noqa: PLW2901
        merged.append(item)
    return [*merged, *left]


def _identity(item: Any, field: str) -> tuple[Any, ...] | None:
    if not isinstance(item, dict):
        return None
    found = tuple(item.get(name, _DEFAULTS.get(name)) for name in IDENTITY[field])
    return None if None in found else found


def _retained(volume: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """What stays of a volume: all but its source, if another kind of source is given."""
    return {name: it for name, it in volume.items() if name in over} if len(over) > 1 else volume


def _given_up(over: dict[str, Any]) -> set[str]:
    """What cannot stand beside what is laid over it."""
    given = {name for name, it in over.items() if it is not None}
    return {name for group in _EITHER_OR if group & given for name in group - given}
