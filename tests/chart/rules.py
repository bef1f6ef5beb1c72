"""What every rendering must satisfy: each rule says what is wrong, and nothing when all is well."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tests.chart.charts import Object, is_hook, pods

CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
LABELS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
)
#: Selectors are immutable in a cluster: an upgrade that changes one is refused. Never change these.
SELECTORS = {
    "Deployment": {"app.kubernetes.io/name": "celeriac-operator"},
    "StatefulSet": {"app.kubernetes.io/name": "celeriac-valkey"},
}
IMAGE = re.compile(r"^[a-z0-9./-]+:[\w.-]+(@sha256:[0-9a-f]{64})?$")
NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$")


def complaints(rendering: list[Object]) -> list[str]:
    """Everything that is wrong with a rendering."""
    return [
        *_identities(rendering),
        *_metadata(rendering),
        *_selectors(rendering),
        *(f"{title}: {it}" for title, spec in pods(rendering) for it in pod_complaints(spec)),
        *_probes(rendering),
        *_scaling(rendering),
    ]


def _identities(rendering: list[Object]) -> Iterator[str]:
    seen = Counter(
        (it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]) for it in rendering
    )
    yield from (f"twice: {one}" for one, count in seen.items() if count > 1)


def _metadata(rendering: list[Object]) -> Iterator[str]:
    for it in rendering:
        meta = it["metadata"]
        title = f"{it['kind']} {meta['name']}"
        if not NAME.match(meta["name"]):
            yield f"{title}: not a name"
        if (it["kind"] in CLUSTER_WIDE) == ("namespace" in meta):
            yield f"{title}: namespace {meta.get('namespace')}"
        yield from (
            f"{title}: no label {name}" for name in LABELS if not meta.get("labels", {}).get(name)
        )
        hook = meta.get("annotations", {}).get("helm.sh/hook-delete-policy", "")
        if is_hook(it) and not {"before-hook-creation", "hook-succeeded"} <= {*hook.split(",")}:
            yield f"{title}: a second run would meet it"


def _selectors(rendering: list[Object]) -> Iterator[str]:
    for it in rendering:
        if it["kind"] in SELECTORS:
            chosen = it["spec"]["selector"]["matchLabels"]
            instance = {"app.kubernetes.io/instance": it["metadata"]["labels"][LABELS[1]]}
            if chosen != {**SELECTORS[it["kind"]], **instance}:
                yield f"{it['kind']}: the selector has changed: {chosen}"
            if not chosen.items() <= it["spec"]["template"]["metadata"]["labels"].items():
                yield f"{it['kind']}: does not select its own pods"


def pod_complaints(spec: Object) -> Iterator[str]:
    """What is wrong with a pod spec."""
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True:
        yield "may run as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "no seccomp profile"
    if spec.get("enableServiceLinks") is not False:
        yield "service links"
    if spec.get("automountServiceAccountToken") is not False and "serviceAccountName" not in spec:
        yield "a token that it does not need"
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        yield from (f"{container['name']}: {it}" for it in _container(container))
        mounts = {it["name"] for it in container.get("volumeMounts", [])}
        lacking = mounts - {it["name"] for it in spec.get("volumes", [])}
        if lacking:
            yield f"{container['name']}: mounts {lacking}, which is no volume"


def _container(container: Object) -> Iterator[str]:
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    security = container.get("securityContext", {})
    if {**security, **wanted} != security or security.get("privileged"):
        yield f"security context {security}"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
        yield "no requests"
    if "memory" not in resources.get("limits", {}):
        yield "no limit of memory"
    if not IMAGE.match(container["image"]) or container["image"].endswith(":latest"):
        yield f"image {container['image']}"
    names = [it["name"] for it in container.get("env", [])]
    yield from (f"{name} is set twice" for name in set(names) if names.count(name) > 1)
    yield from (
        f"{it['name']} is no text" for it in container.get("env", []) if it.get("value", "") is None
    )


def _probes(rendering: list[Object]) -> Iterator[str]:
    for title, spec in pods([it for it in rendering if not is_hook(it)]):
        for container in spec["containers"]:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                port = next(iter(container.get(probe, {"": {}}).values())).get("port")
                if port not in [it["name"] for it in container.get("ports", [])]:
                    yield f"{title}: {probe} on port {port}"


def _scaling(rendering: list[Object]) -> Iterator[str]:
    """No number of workers: that is for the operator, or for whoever scales a queue."""
    for it in rendering:
        if it["kind"] == "MessageQueue" and "replicas" in it["spec"]:
            yield f"MessageQueue {it['metadata']['name']}: replicas"
        if it["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            yield f"{it['kind']}: a second owner of replicas"
