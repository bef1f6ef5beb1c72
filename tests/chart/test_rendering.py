"""Every value, set to something else, alone and beside everything that can be switched on."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from scripts.render_charts import values
from tests.chart.charts import CHARTS, NAMES, Helm, Object, find, merged, nested
from tests.chart.rules import complaints

#: Another value for every value that there is.
OTHER: dict[str, dict[str, Any]] = {
    "celeriac": {
        "image.repository": "registry.example.com/celeriac",
        "image.tag": "1.2.3-rc.1",
        "image.digest": f"sha256:{'0a' * 32}",
        "image.pullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "fullnameOverride": "operator",
        "replicaCount": 1,
        "operator.watchNamespaces": ["team-a", "team-b"],
        "operator.leaseDurationSeconds": 15,
        "operator.resyncSeconds": 600,
        "operator.workers": 8,
        "operator.workerNetworkPolicy": True,
        "operator.logLevel": "DEBUG",
        "broker.secretName": "redis",
        "broker.secretKey": "REDIS_URL",
        "broker.url": "celeriacs://user:p%40ss@redis.example.com:6380/1",
        "valkey.enabled": False,
        "valkey.image": "valkey/valkey:9",
        "valkey.password": "other-0123",
        "valkey.maxMemory": "1gb",
        "valkey.resources": {"requests": {"cpu": 1, "memory": "2Gi"}, "limits": {"memory": "2Gi"}},
        "valkey.persistence.enabled": False,
        "valkey.persistence.size": "20Gi",
        "valkey.persistence.storageClass": "fast",
        "valkey.clusterIP": "10.96.0.77",
        "serviceAccount.create": False,
        "serviceAccount.name": "somebody",
        "serviceAccount.annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"},
        "rbac.create": False,
        "rbac.aggregate": False,
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        "securityContext": {"privileged": False},
        "podAnnotations": {"prometheus.io/scrape": "true"},
        "podLabels": {"team": "a", "app.kubernetes.io/name": "not-for-you"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "broker-ca"}}],
        "extraVolumeMounts": [{"name": "tmp", "mountPath": "/var/tmp", "readOnly": True}],
        "nodeSelector": {"pool": "platform"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "podDisruptionBudget.enabled": False,
        "networkPolicy.enabled": False,
        "networkPolicy.from": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
        "metrics.serviceMonitor.enabled": False,
        "metrics.serviceMonitor.interval": "30s",
        "metrics.serviceMonitor.labels": {"release": "prometheus"},
        "metrics.prometheusRule.enabled": False,
        "metrics.prometheusRule.labels": {"release": "prometheus"},
        "metrics.prometheusRule.runbookUrl": "https://git.example.com/docs/runbooks",
        "metrics.prometheusRule.alerts": {"CeleriacQueueOld": {"enabled": False}},
    },
    "messaging": {
        "image.repository": "registry.example.com/messaging",
        "image.tag": "1.2.3",
        "image.digest": f"sha256:{'0b' * 32}",
        "image.pullPolicy": "Never",
        "imagePullSecrets": [{"name": "registry"}],
        "env": {"MESSAGING_SMTP_HOST": "mail.example.com"},
        "secretName": "messaging-settings",
        "broker.secretName": "redis",
        "broker.secretKey": "REDIS_URL",
        "persistence.existingClaim": "messages",
        "podSecurityContext": {"fsGroup": None},
        "defaults": {"autoscaling": {"maxReplicas": 7}},
        "queues": {"message-cleanup": {"paused": True}},
    },
}
#: Values that are not the defaults where those would hide others.
EVERYTHING: dict[str, Object] = {
    "celeriac": {
        "valkey": {"enabled": True, "password": "p4ss", "persistence": {"enabled": True}},
        "networkPolicy": {"enabled": True},
        "metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
    },
    "messaging": {"broker": {"secretName": "broker"}, "env": {"MESSAGING_LOG_LEVEL": "DEBUG"}},
}
#: Values that show only while another one is different.
BESIDE: dict[str, Object] = {
    "broker.url": {"valkey": {"enabled": False}},
    "extraVolumes": {"extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/broker"}]},
}
EVERY = [(chart, path) for chart, others in OTHER.items() for path in others]

Renderer = Callable[[str, Object], list[Object]]


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> Renderer:
    done: dict[str, list[Object]] = {}

    def render(chart: str, given: Object) -> list[Object]:
        key = f"{chart} {json.dumps(given)}"
        if key not in done:
            done[key] = helm.render(chart, given)
        return done[key]

    return render


@pytest.mark.parametrize("chart", NAMES)
def test_helm_finds_nothing_to_say(helm: Helm, chart: str) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", CHARTS / chart)


@pytest.mark.parametrize("chart", OTHER)
def test_every_value_is_tried(chart: str) -> None:
    assert [it.path for it in values(CHARTS / chart)] == list(OTHER[chart])


@pytest.mark.parametrize("chart", OTHER)
def test_defaults_and_everything_are_in_order(rendered: Renderer, chart: str) -> None:
    assert complaints(rendered(chart, {})) == []
    everything = rendered(chart, EVERYTHING[chart])
    assert complaints(everything) == []


@pytest.mark.parametrize("chart", OTHER)
def test_the_same_values_make_the_same_objects(helm: Helm, chart: str) -> None:
    assert helm.render(chart, EVERYTHING[chart]) == helm.render(chart, EVERYTHING[chart])


@pytest.mark.parametrize(("chart", "path"), EVERY, ids=[".".join(it) for it in EVERY])
def test_a_value_has_an_effect_and_breaks_nothing(
    rendered: Renderer, chart: str, path: str
) -> None:
    beside = BESIDE.get(path, {})
    other = merged(beside, nested(path, OTHER[chart][path]))
    changed = rendered(chart, merged(EVERYTHING[chart], other))
    assert changed != rendered(chart, merged(EVERYTHING[chart], beside))
    assert complaints(changed) == []
    if isinstance(OTHER[chart][path], bool):
        assert complaints(rendered(chart, other)) == []


def test_what_users_take_away_from_the_security_contexts_is_gone(rendered: Renderer) -> None:
    other = {
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        "securityContext": {"readOnlyRootFilesystem": None},
    }
    spec = find(rendered("celeriac", other), "Deployment")["spec"]["template"]["spec"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert "readOnlyRootFilesystem" not in spec["containers"][0]["securityContext"]


Break = Callable[[list[Object]], object]
BROKEN: dict[str, Break] = {
    "twice": lambda it: it.append(copy.deepcopy(it[0])),
    "no label helm.sh/chart": lambda it: it[0]["metadata"]["labels"].pop("helm.sh/chart"),
    "namespace None": lambda it: find(it, "Service", "celeriac-metrics")["metadata"].pop(
        "namespace"
    ),
    "not a name": lambda it: it[0]["metadata"].update(name="Not_A_Name"),
    "selector has changed": lambda it: find(it, "Deployment")["spec"]["selector"][
        "matchLabels"
    ].update(version="1"),
    "does not select its own pods": lambda it: find(it, "Deployment")["spec"]["template"][
        "metadata"
    ].update(labels={}),
    "may run as root": lambda it: _pod(it)["securityContext"].pop("runAsNonRoot"),
    "no seccomp profile": lambda it: _pod(it)["securityContext"].pop("seccompProfile"),
    "service links": lambda it: _pod(it).pop("enableServiceLinks"),
    "a token that it does not need": lambda it: _pod(it).pop("serviceAccountName"),
    "which is no volume": lambda it: _pod(it)["volumes"].pop(),
    "security context": lambda it: _container(it)["securityContext"].pop("capabilities"),
    "no requests": lambda it: _container(it)["resources"].pop("requests"),
    "no limit of memory": lambda it: _container(it)["resources"].pop("limits"),
    "image celeriac:": lambda it: _container(it).update(image="celeriac:"),
    "is set twice": lambda it: _container(it)["env"].append({"name": "CELERIAC_OPERATOR_IMAGE"}),
    "livenessProbe on port None": lambda it: _container(it).pop("livenessProbe"),
    "a second run would meet it": lambda it: find(it, "Pod")["metadata"]["annotations"].pop(
        "helm.sh/hook-delete-policy"
    ),
    "replicas": lambda it: find(it, "MessageQueue")["spec"].update(replicas=2),
}


def _pod(rendering: list[Object]) -> Object:
    spec: Object = find(rendering, "Deployment")["spec"]["template"]["spec"]
    return spec


def _container(rendering: list[Object]) -> Object:
    container: Object = _pod(rendering)["containers"][0]
    return container


@pytest.mark.parametrize("complaint", BROKEN)
def test_a_broken_rendering_is_noticed(rendered: Renderer, complaint: str) -> None:
    rendering = copy.deepcopy(rendered("celeriac", {}))
    BROKEN[complaint](rendering)
    assert any(complaint in it for it in complaints(rendering))
