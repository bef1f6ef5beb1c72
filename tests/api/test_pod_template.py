"""What a queue lays over its workers' pods, as the API server itself merges and keeps it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from celeriac_operator import kinds
from celeriac_operator.api import Kind
from celeriac_operator.resources.overlay import IDENTITY
from tests.api.operator_process import until

if TYPE_CHECKING:
    from tests.api.kube import Kube

Object = dict[str, Any]
WEBHOOKS = Kind(
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    "admissionregistration.k8s.io",
)


def test_lists_are_merged_by_the_api_servers_own_keys(kube: Kube) -> None:
    found: dict[str, tuple[str, ...]] = {}
    schemas = kube.request("GET", "/openapi/v3/apis/apps/v1")["components"]["schemas"]
    pending = ["io.k8s.api.core.v1.PodSpec"]
    met = {
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    }  # of a claim's template: another object
    while pending:
        name = pending.pop()
        met.add(name)
        for field, schema in schemas[name].get("properties", {}).items():
            if keys := schema.get("x-kubernetes-list-map-keys"):
                found[field] = tuple(keys)
            pending += [it for it in _references(schema) if it not in met]
    assert found == IDENTITY


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for it in schema for name in _references(it)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"].rpartition("/")[2]] if "$ref" in schema else []
    return own + [name for it in schema.values() for name in _references(it)]


@pytest.mark.usefixtures("operator")
def test_two_mounts_of_one_volume_are_both_in_the_deployment(kube: Kube) -> None:
    mounts = [
        {"name": "conf", "mountPath": "/etc/app/a", "subPath": "a"},
        {"name": "conf", "mountPath": "/etc/app/b", "subPath": "b"},
    ]
    over = {
        "containers": [{"name": "worker", "volumeMounts": mounts}],
        "volumes": [{"name": "conf", "configMap": {"name": "conf"}}],
    }
    kube.declare("orders", worker={"podTemplate": {"spec": over}})

    until(lambda: kube.is_ready("orders"))
    pod = kube.get(kinds.DEPLOYMENTS, "orders")["spec"]["template"]["spec"]
    found = [it["mountPath"] for it in pod["containers"][0]["volumeMounts"]]
    assert found == ["/tmp", "/etc/app/a", "/etc/app/b"]


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    ("over", "named"),
    [
        ({"nodeSelectr": {"a": "b"}}, ".spec.template.spec.nodeSelectr"),
        (
            {
                "containers": [
                    {"name": "worker", "ports": [{"containerPort": 9}, {"containerPort": 9}]}
                ]
            },
            "duplicate entries for key",
        ),
    ],
)
def test_what_no_pod_can_be_is_told_with_its_object_and_field(
    kube: Kube, over: dict[str, Any], named: str
) -> None:
    kube.declare("orders")
    until(lambda: kube.is_ready("orders"))
    kube.patch(kinds.QUEUES, "orders", {"spec": {"worker": {"podTemplate": {"spec": over}}}})
    until(lambda: kube.condition("orders", "Stalled") == ("True", "Refused"))
    message = kube.message("orders", "Stalled")
    assert "Deployment orders" in message
    assert named in message
    until(lambda: kube.condition("orders", "Reconciling") == ("Unknown", "Refused"))
    kube.patch(kinds.QUEUES, "orders", {"spec": {"worker": {"podTemplate": None}}})
    until(lambda: kube.condition("orders", "Reconciling") == ("False", "AsDeclared"))
    assert kube.condition("orders", "Stalled") == ("False", "AsDeclared")


@pytest.mark.usefixtures("operator")
def test_a_webhook_that_is_down_is_told_and_once_it_is_back_the_change_is_out(kube: Kube) -> None:
    kube.declare("orders")
    until(lambda: kube.is_ready("orders"))
    name = f"down-{kube.namespace}"
    path = WEBHOOKS.path(None)
    kube.request("POST", path, {"metadata": {"name": name}, "webhooks": [_down(kube.namespace)]})
    try:
        kube.patch(kinds.QUEUES, "orders", {"spec": {"worker": {"image": "fake:2"}}})
        until(lambda: kube.condition("orders", "Reconciling") == ("True", "Retrying"))
        assert "the Deployment orders could not be written" in kube.message("orders", "Reconciling")
        assert "failed calling webhook" in kube.message("orders", "Reconciling")
        time.sleep(10)  # it has failed more than a few times by then, and waits the longest
    finally:
        kube.request("DELETE", WEBHOOKS.path(None, name))

    def image() -> str:
        pod = kube.get(kinds.DEPLOYMENTS, "orders")["spec"]["template"]["spec"]
        return str(pod["containers"][0]["image"])

    until(lambda: image() == "fake:2", seconds=10)
    until(lambda: kube.condition("orders", "Reconciling") == ("False", "AsDeclared"))


def _down(namespace: str) -> Object:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    return {
        "name": "down.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [{**rule, "operations": ["CREATE", "UPDATE"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 1,
    }


def test_before_the_first_look_a_queue_is_observed_by_nobody(kube: Kube) -> None:
    kube.declare("orders")
    assert kube.queue("orders")["status"] == {"observedGeneration": -1}
