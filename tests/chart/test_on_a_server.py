"""What only a real API server can say: its schemas, Pod Security, rights."""

from __future__ import annotations

import copy

import pytest

from tests.chart.charts import NAMESPACE, Helm, Object, find
from tests.chart.server import OTHERS, Question, Server

#: These kinds belong to other people's operators.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}
CASES: dict[str, tuple[str, Object]] = {
    "defaults": ("celeriac", {}),
    "everything": (
        "celeriac",
        {
            "valkey": {"enabled": True, "persistence": {"enabled": True, "storageClass": "fast"}},
            "imagePullSecrets": [{"name": "registry"}],
            "podAnnotations": {"a": "b"},
            "podLabels": {"team": "a"},
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
            "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
            "nodeSelector": {"pool": "platform"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "system-cluster-critical",
            "networkPolicy": {
                "enabled": True,
                "from": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
            },
        },
    ),
    "in two namespaces": (
        "celeriac",
        {
            "operator": {"watchNamespaces": [*OTHERS]},
            "rbac": {"aggregate": False},
            "broker": {"url": "celeriac://x:6379/0"},
            "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        },
    ),
    "messaging": ("messaging", {}),
    "messaging, everything": (
        "messaging",
        {
            "imagePullSecrets": [{"name": "registry"}],
            "env": {"MESSAGING_DEDUP_SECONDS": 1_000_000},
            "secretName": "settings",
            "broker": {"secretName": "redis"},
            "persistence": {"existingClaim": "messages"},
            "defaults": {"worker": {"resources": {"limits": {"cpu": 1}}}},
            "queues": {
                "message-cleanup": {
                    "schedules": [{"name": "more", "cron": "* * * * *", "task": "t"}]
                }
            },
        },
    ),
}


def judged(rendering: list[Object]) -> list[Object]:
    """What the server can judge."""
    return [it for it in rendering if it["kind"] not in FOREIGN]


@pytest.mark.parametrize("case", CASES)
def test_the_server_takes_everything_without_a_warning(
    helm: Helm, server: Server, case: str
) -> None:
    chart, values = CASES[case]
    assert server.try_out(judged(helm.render(chart, values))) == ""


def test_the_server_does_judge(helm: Helm, server: Server) -> None:
    rendering = judged(helm.render("celeriac"))
    mistyped, insecure = (copy.deepcopy(find(rendering, "Deployment")) for _ in range(2))
    mistyped["spec"]["template"]["spec"]["containers"][0]["comand"] = ["x"]
    assert 'unknown field "comand"' in server.try_out([mistyped])
    insecure["spec"]["template"]["spec"]["containers"][0].pop("securityContext")
    assert "would violate PodSecurity" in server.try_out([insecure])
    pod = copy.deepcopy(find(rendering, "Pod"))
    pod["spec"].pop("securityContext")
    assert "violates PodSecurity" in server.try_out([pod])


MAY = (
    Question("watch", "messagequeues.celeriac.dev", "team-a"),
    Question("patch", "messagequeues.celeriac.dev/status", "team-a"),
    Question("create", "deployments.apps", "team-a"),
    Question("patch", "deployments.apps/scale", "team-a"),
    Question("get", "secrets", "team-a", "whatever"),
)
MAY_AT_HOME = (
    Question("get", "secrets", NAMESPACE, "celeriac-broker"),
    Question("create", "leases.coordination.k8s.io", NAMESPACE),
    Question("update", "leases.coordination.k8s.io", NAMESPACE, "celeriac"),
)
MUST_NOT = (
    Question("list", "secrets", "team-a"),
    Question("watch", "secrets", "team-a"),
    Question("create", "pods", "team-a"),
    Question("create", "messagequeues.celeriac.dev", "team-a"),
    Question("delete", "messagequeues.celeriac.dev", "team-a"),
    Question("get", "nodes", ""),
    Question("list", "namespaces", ""),
    Question("create", "rolebindings.rbac.authorization.k8s.io", "team-a"),
    Question("update", "leases.coordination.k8s.io", NAMESPACE, "another"),
    Question("update", "leases.coordination.k8s.io", "team-a", "celeriac"),
)


def test_for_all_namespaces_it_may_do_its_work_and_no_more(helm: Helm, server: Server) -> None:
    with server.applied(judged(helm.render("celeriac"))):
        allowed = server.allowed("celeriac", [*MAY, *MAY_AT_HOME, *MUST_NOT])
    assert allowed == [*MAY, *MAY_AT_HOME]


def test_for_some_namespaces_it_may_do_nothing_elsewhere(helm: Helm, server: Server) -> None:
    values = {"operator": {"watchNamespaces": ["team-a"]}, "rbac": {"aggregate": False}}
    elsewhere = [
        it._replace(namespace=namespace) for it in MAY for namespace in ("team-b", NAMESPACE, "")
    ]
    with server.applied(judged(helm.render("celeriac", values))):
        allowed = server.allowed("celeriac", [*MAY, *MAY_AT_HOME, *MUST_NOT, *elsewhere])
    assert allowed == [*MAY, *MAY_AT_HOME]
