"""What the operator's chart says, case by case."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from celeriac.spec.queue import MessageQueue
from celeriac_operator.settings import PREFIX, Settings
from tests.chart.charts import CHARTS, NAMESPACE, ROOT, Helm, HelmError, Object, find, kinds

RULES = yaml.safe_load((ROOT / "operator/celeriac_operator/rbac.yaml").read_text())
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding"}


def environment(rendering: list[Object]) -> dict[str, str]:
    """The operator's environment, as far as it is plain text."""
    spec = find(rendering, "Deployment")["spec"]["template"]["spec"]
    return {it["name"]: it["value"] for it in spec["containers"][0]["env"] if "value" in it}


def test_the_operator_reads_what_the_chart_says(helm: Helm) -> None:
    values = {
        "image": {"repository": "r/celeriac", "tag": "7"},
        "operator": {
            "watchNamespaces": ["team-a", "team-b"],
            "leaseDurationSeconds": 20,
            "resyncSeconds": 60,
            "workers": 2,
            "workerNetworkPolicy": True,
            "logLevel": "ERROR",
        },
        "broker": {"secretName": "redis", "secretKey": "u"},
    }
    given = environment(helm.render("celeriac", values))
    settings = Settings.from_environment(given)
    assert settings.watch_namespaces == ("team-a", "team-b")
    assert settings.lease_name == "celeriac"
    assert (settings.lease_duration, settings.resync, settings.workers) == (20, 60, 2)
    assert (settings.broker_secret, settings.broker_secret_key) == ("redis", "u")
    assert (settings.image, settings.network_policy) == ("r/celeriac:7", True)
    assert settings.log_level == "ERROR"


def test_every_setting_of_the_operator_is_set_and_no_other(helm: Helm) -> None:
    spec = find(helm.render("celeriac"), "Deployment")["spec"]["template"]["spec"]
    names = {it["name"] for it in spec["containers"][0]["env"]}
    known = {PREFIX + it.upper() for it in Settings.model_fields}
    assert known - names == {PREFIX + "HTTP_HOST"}
    assert names <= known


def test_without_values_it_looks_after_all_namespaces(helm: Helm) -> None:
    rendering = helm.render("celeriac")
    assert find(rendering, "ClusterRole", "celeriac")["rules"] == RULES
    assert environment(rendering)[PREFIX + "WATCH_NAMESPACES"] == ""
    assert Settings.from_environment(environment(rendering)).watch_namespaces == ()


def test_narrowed_to_namespaces_it_has_the_same_rules_there_and_none_elsewhere(helm: Helm) -> None:
    values = {
        "operator": {"watchNamespaces": ["team-a", "team-b"]},
        "rbac": {"aggregate": False},
    }
    rendering = helm.render("celeriac", values)
    assert not kinds(rendering) & CLUSTER_WIDE
    roles = [
        it for it in rendering if it["kind"] == "Role" and it["metadata"]["name"] == "celeriac"
    ]
    assert [it["metadata"]["namespace"] for it in roles] == ["team-a", "team-b"]
    assert all(it["rules"] == RULES for it in roles)


def test_beside_the_operator_rights_are_for_one_lease_and_one_secret(helm: Helm) -> None:
    role = find(helm.render("celeriac"), "Role", "celeriac-own")
    unnamed = [it["verbs"] for it in role["rules"] if "resourceNames" not in it]
    assert unnamed == [["create"]], "creating is all that cannot be narrowed to a name"
    named = {name for it in role["rules"] for name in it.get("resourceNames", [])}
    assert named == {"celeriac", "celeriac-broker"}


@pytest.mark.parametrize("create", [True, False])
def test_every_binding_is_for_the_account_that_the_operator_uses(helm: Helm, create: bool) -> None:
    values = {"serviceAccount": {"create": create, "name": "" if create else "theirs"}}
    rendering = helm.render("celeriac", values)
    account = "celeriac" if create else "theirs"
    spec = find(rendering, "Deployment")["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == account
    assert ("ServiceAccount" in kinds(rendering)) == create
    bindings = [it for it in rendering if it["kind"].endswith("RoleBinding")]
    subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
    assert bindings
    assert all(it["subjects"] == [subject] for it in bindings)


def test_a_broker_of_your_own_is_a_secret_that_the_chart_does_not_make(helm: Helm) -> None:
    rendering = helm.render("celeriac", {"broker": {"secretName": "redis"}})
    assert not kinds(rendering) & {"Secret", "StatefulSet"}
    send = find(rendering, "Pod")["spec"]["containers"][0]
    assert send["env"][0]["valueFrom"] == {"secretKeyRef": {"name": "redis", "key": "url"}}


def test_a_url_becomes_the_secret(helm: Helm) -> None:
    url = "celeriacs://user:p%40ss@redis.example.com:6380/1?ssl_ca_certs=/ca.crt"
    rendering = helm.render("celeriac", {"broker": {"url": url}})
    assert find(rendering, "Secret")["stringData"] == {"url": url}
    assert "StatefulSet" not in kinds(rendering)


def test_the_development_broker_has_the_address_and_password_of_its_secret(helm: Helm) -> None:
    rendering = helm.render("celeriac", {"valkey": {"enabled": True}})
    secret = find(rendering, "Secret")["stringData"]
    service = find(rendering, "Service", "celeriac-valkey")
    host = f"celeriac-valkey.{NAMESPACE}.svc.cluster.local"
    assert secret["url"] == f"celeriac://:{secret['password']}@{host}:6379/0"
    assert len(secret["password"]) == 24
    assert f"requirepass {secret['password']}" in secret["valkey.conf"].splitlines()
    chosen = find(rendering, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= chosen.items()


def test_a_new_setting_of_the_development_broker_starts_it_anew(helm: Helm) -> None:
    def template(**valkey: str) -> Any:
        values = {"valkey": {"enabled": True, "password": "p", **valkey}}
        return find(helm.render("celeriac", values), "StatefulSet")["spec"]["template"]

    assert template(maxMemory="1gb") != template(maxMemory="2gb")


def test_two_brokers_are_refused(helm: Helm) -> None:
    values = {"valkey": {"enabled": True}, "broker": {"url": "celeriac://x:6379/0"}}
    with pytest.raises(HelmError, match=r"valkey\.enabled and broker\.url are both set"):
        helm.render("celeriac", values)


def test_one_service_is_scraped_and_it_leads_to_the_operator(helm: Helm) -> None:
    values = {"valkey": {"enabled": True}, "metrics": {"serviceMonitor": {"enabled": True}}}
    rendering = helm.render("celeriac", values)
    monitor = find(rendering, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    services = [it for it in rendering if it["kind"] == "Service"]
    chosen = [it for it in services if wanted <= it["metadata"]["labels"].items()]
    assert [it["metadata"]["name"] for it in chosen] == ["celeriac-metrics"]
    ports = {it["name"]: it["targetPort"] for it in chosen[0]["spec"]["ports"]}
    assert ports[monitor["endpoints"][0]["port"]] == "http"
    assert monitor["endpoints"][0]["honorLabels"] is True, "a queue's namespace is the queue's"


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "NetworkPolicy", "Service"])
def test_what_selects_operators_selects_operators(helm: Helm, kind: str) -> None:
    values = {"networkPolicy": {"enabled": True}, "podLabels": {"team": "a"}}
    rendering = helm.render("celeriac", values)
    spec = find(rendering, kind)["spec"]
    chosen = spec.get("selector") or spec["podSelector"]
    labels = find(rendering, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert chosen.get("matchLabels", chosen).items() <= labels.items()
    assert labels["team"] == "a"


def test_all_pods_get_onto_the_nodes_that_were_named(helm: Helm) -> None:
    values = {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "platform"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    }
    rendering = helm.render("celeriac", {**values, "valkey": {"enabled": True}})
    specs = [
        find(rendering, "Deployment")["spec"]["template"]["spec"],
        find(rendering, "StatefulSet")["spec"]["template"]["spec"],
        find(rendering, "Pod")["spec"],
        find(rendering, "MessageQueue")["spec"]["worker"]["podTemplate"]["spec"],
    ]
    for spec in specs:
        assert {name: spec[name] for name in values} == values


@pytest.mark.parametrize(
    ("watched", "namespace"),
    [([], NAMESPACE), (["team-a", NAMESPACE], NAMESPACE), (["team-a", "team-b"], "team-a")],
)
def test_the_test_queue_is_where_the_operator_looks(
    helm: Helm, watched: list[str], namespace: str
) -> None:
    rendering = helm.render("celeriac", {"operator": {"watchNamespaces": watched}})
    resource = find(rendering, "MessageQueue")
    queue = MessageQueue.model_validate(resource)
    assert queue.metadata.namespace == namespace
    assert find(rendering, "Pod")["spec"]["containers"][0]["command"][-1] == queue.queue_name


def test_long_names_stay_names(helm: Helm) -> None:
    rendering = helm.render("celeriac", {"valkey": {"enabled": True}}, release="a" * 53)
    assert len(find(rendering, "MessageQueue")["metadata"]["name"]) <= 47
    inside = [it for it in rendering if it["kind"] not in CLUSTER_WIDE]  # those may have 253
    assert max(len(it["metadata"]["name"]) for it in inside) <= 63


def test_notes_say_what_to_do_next(helm: Helm) -> None:
    def notes(*flags: str) -> str:
        text = helm.run("install", "mine", CHARTS / "celeriac", "--dry-run=client", *flags)
        return text.partition("NOTES:")[2]

    plain = notes()
    assert "helm upgrade --install celeriac-crds" in plain
    assert "create secret generic celeriac-broker --from-literal=url=celeriac://" in plain
    assert "helm -n default test mine" in plain
    assert "without a replica and without a disk" in notes("--set=valkey.enabled=true")
    assert "create secret" not in notes("--set=broker.url=celeriac://x:6379/0")
    assert "in team-a, team-b." in notes("--set=operator.watchNamespaces={team-a,team-b}")
