"""The charts' helper lays values over one another by the very rules of the operator, on the same cases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from celeriac_operator.resources.overlay import IDENTITY, lay_over
from tests.chart.charts import CHARTS, Helm
from tests.unit.operator.test_overlay import ITEMS

TEMPLATE = """\
{{- range $number, $case := .Values.cases }}
---
number: {{ $number }}
result: {{ (include "messaging.layOver" (list $case.own $case.over "") | fromJson).value | toJson }}
{{- end }}
"""

OWN: list[tuple[Any, Any]] = [
    *(({field: [own]}, {field: [beside, over]}) for field, (own, over, beside) in ITEMS.items()),
    *(({field: [own]}, {field: [over, over]}) for field, (own, over, _) in ITEMS.items()),
    *(({field: [own]}, {field: [{}, "wrong"]}) for field, (own, _, _) in ITEMS.items()),
    ({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}),
    ({"a": [1, 2]}, {"a": [3]}),
    ({"tolerations": [{"name": "a"}]}, {"tolerations": [{"name": "a", "key": "b"}]}),
    ({"envFrom": [{"secretRef": {"name": "a"}}]}, {"envFrom": [{"secretRef": {"name": "b"}}]}),
    (
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]},
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
        {"env": [{"name": "A", "value": ""}]},
    ),
    ({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None}, "d": None}),
    (
        {"volumes": [{"name": "tmp", "emptyDir": {}}]},
        {"volumes": [{"name": "tmp", "persistentVolumeClaim": {"claimName": "c"}}]},
    ),
    (
        {"livenessProbe": {"httpGet": {"path": "/livez"}, "periodSeconds": 9}},
        {"livenessProbe": {"exec": {"command": ["true"]}}},
    ),
    ({"flag": True, "list": [1], "map": {"a": 1}}, {"flag": False, "list": [], "map": {}}),
]


@pytest.fixture(scope="module")
def laid(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """All cases, laid over by the chart's helper in one rendering."""
    chart = tmp_path_factory.mktemp("chart")
    (chart / "templates").mkdir()
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: cases\nversion: 0.1.0\n")
    shutil.copy(CHARTS / "messaging/templates/_helpers.tpl", chart / "templates")
    (chart / "templates/cases.yaml").write_text(TEMPLATE)
    return rendered(helm, chart, OWN)


def rendered(helm: Helm, chart: Path, cases: list[tuple[Any, Any]]) -> list[Any]:
    values = {"cases": [{"own": own, "over": over} for own, over in cases]}
    text = helm.run("template", "cases", chart, "--values", "-", stdin=json.dumps(values))
    results = [it for it in text.splitlines() if it.startswith("result: ")]
    return [json.loads(it.removeprefix("result: ")) for it in results]


@pytest.mark.parametrize("number", range(len(OWN)))
def test_the_chart_lays_over_what_the_operator_lays_over(laid: list[Any], number: int) -> None:
    own, over = OWN[number]
    assert laid[number] == lay_over(own, over)


def test_the_chart_knows_every_list_that_the_operator_knows() -> None:
    text = (CHARTS / "messaging/templates/_helpers.tpl").read_text()
    for field, keys in IDENTITY.items():
        assert f"\n{field}: [{', '.join(keys)}]\n" in text
