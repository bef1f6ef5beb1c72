"""The three faces of a chart's values: values.yaml, its schema, and the README's table of both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from scripts import render_charts
from scripts.render_charts import values
from tests.chart.charts import CHARTS, Helm, HelmError, merged, nested

WITH_VALUES = ("celeriac", "messaging")
#: What charts make of it when they are parts of another one: Helm hands it down.
HELMS_OWN = "global"

REFUSED: list[tuple[str, str, Any, str]] = [
    # chart, path, value, what Helm says
    ("celeriac", "imge.tag", "1", "'imge' not allowed"),
    ("celeriac", "image.tagg", "1", "at '/image': additional properties 'tagg' not allowed"),
    ("celeriac", "image.tag", 1.5, "at '/image/tag': got number, want string"),
    ("celeriac", "image.digest", "0a0a", "at '/image/digest': '0a0a' does not match pattern"),
    ("celeriac", "image.pullPolicy", "Sometimes", "at '/image/pullPolicy': value must be one of"),
    ("celeriac", "imagePullSecrets", ["registry"], "at '/imagePullSecrets/0': got string, want"),
    ("celeriac", "replicaCount", "2", "at '/replicaCount': got string, want integer"),
    ("celeriac", "replicaCount", -1, "at '/replicaCount': minimum: got -1"),
    ("celeriac", "operator.watchNamespaces", "a", "at '/operator/watchNamespaces': got string"),
    (
        "celeriac",
        "operator.watchNamespaces",
        ["a", "a"],
        "at '/operator/watchNamespaces': items at",
    ),
    ("celeriac", "operator.leaseDurationSeconds", 1, "at '/operator/leaseDurationSeconds': min"),
    ("celeriac", "operator.logLevel", "debug", "at '/operator/logLevel': value must be one of"),
    ("celeriac", "broker.url", "http://x", "at '/broker/url': 'http://x' does not match pattern"),
    ("celeriac", "broker.secretName", "", "at '/broker/secretName': '' does not match pattern"),
    ("celeriac", "valkey.password", "p@ss", "at '/valkey/password': 'p@ss' does not match"),
    ("celeriac", "valkey.enabled", "yes", "at '/valkey/enabled': got string, want boolean"),
    ("celeriac", "valkey.persistence.sise", "1Gi", "at '/valkey/persistence': additional prop"),
    ("celeriac", "resources.limit", {}, "at '/resources': additional properties 'limit' not"),
    ("celeriac", "tolerations", [{}, "x"], "at '/tolerations/1': got string, want object"),
    ("celeriac", "affinity.nodeAfinity", {}, "at '/affinity': additional properties 'nodeAfin"),
    ("celeriac", "extraEnv", [{"value": "x"}], "at '/extraEnv/0': missing property 'name'"),
    ("celeriac", "podLabels.team", 7, "at '/podLabels/team': got number, want string"),
    ("celeriac", "metrics.serviceMonitor.interval", "15", "at '/metrics/serviceMonitor/interval'"),
    (
        "celeriac",
        "metrics.prometheusRule.alerts.CeleriacQueueStick",
        {},
        "at '/metrics/prometheusRule/alerts': additional properties 'CeleriacQueueStick'",
    ),
    (
        "celeriac",
        "metrics.prometheusRule.alerts.CeleriacQueueOld.four",
        "5m",
        "at '/metrics/prometheusRule/alerts/CeleriacQueueOld': additional properties 'four'",
    ),
    ("messaging", "env.LOG_LEVEL", "DEBUG", "invalid propertyName 'LOG_LEVEL'"),
    ("messaging", "secretName", "Not A Name", "at '/secretName': 'Not A Name' does not match"),
    ("messaging", "queues.message-delivry", {}, "at '/queues': additional properties 'message-d"),
    (
        "messaging",
        "queues.message-delivery.retry.maxAtempts",
        3,
        "at '/queues/message-delivery/retry': additional properties 'maxAtempts' not allowed",
    ),
    ("messaging", "defaults.autoscaling.maxReplicas", "20", "at '/defaults/autoscaling/maxReplic"),
    ("messaging", "defaults.worker.pool", "threads", "at '/defaults/worker/pool': value must be"),
    ("messaging", "defaults.autoscaling.mode", "Keda", "at '/defaults/autoscaling/mode': value m"),
]


def schema_paths(schema: dict[str, Any], whole: set[str], prefix: str = "") -> Iterator[str]:
    """The values that a schema knows; what is set as a whole is one, whatever is in it."""
    for name, inner in schema["properties"].items():
        path = f"{prefix}{name}"
        if "properties" in inner and path not in whole:
            yield from schema_paths(inner, whole, path + ".")
        else:
            yield path


@pytest.mark.parametrize("chart", WITH_VALUES)
def test_values_and_schema_know_the_same(chart: str) -> None:
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    known = {it.path for it in values(CHARTS / chart)}
    assert {*schema_paths(schema, known)} - {HELMS_OWN} == known


@pytest.mark.parametrize(
    ("chart", "path", "value", "text"), REFUSED, ids=[f"{it[1]}={it[2]}" for it in REFUSED]
)
def test_a_mistake_is_refused_with_its_name(
    helm: Helm, chart: str, path: str, value: Any, text: str
) -> None:
    with pytest.raises(HelmError) as refused:
        helm.render(chart, nested(path, value))
    assert text in str(refused.value)


@pytest.mark.parametrize("chart", WITH_VALUES)
def test_every_value_has_a_text_that_ends(chart: str) -> None:
    for it in values(CHARTS / chart):
        assert it.text.endswith("."), f"{it.path}: {it.text!r}"


def test_generated_parts_are_fresh() -> None:
    assert render_charts.stale() == [], "run `make docs`"


def test_a_queue_in_the_schema_has_the_fields_of_the_resource() -> None:
    fields = render_charts.queue_fields()["properties"]
    assert fields["retry"]["properties"]["maxAttempts"]["type"] == "integer"
    assert "required" not in json.dumps(fields), "what is laid over another need not be whole"
    assert fields["worker"]["additionalProperties"] is False
    assert "properties" not in fields["worker"]["properties"]["podTemplate"]["properties"]["spec"]


def test_merging_is_helms() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}) == {
        "a": {"b": 3, "c": 2},
        "d": [2],
    }
