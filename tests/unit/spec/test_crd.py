"""The CRD: structural, bounded, documented, and the same as the file in the chart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from celeriac.spec import crd as module
from celeriac.spec.crd import crd, crd_text
from celeriac.spec.queue import MessageQueue
from celeriac.spec.rules import SpecModel

CHART = Path(__file__).parents[3] / "charts/celeriac-crds"

Schema = dict[str, Any]


def root() -> Schema:
    schema: Schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


FIELDS = [(path, schema) for path, schema in walk(root()) if path.startswith((".spec", ".status"))]


def test_the_chart_ships_what_the_models_say() -> None:
    shipped = (CHART / "templates/messagequeues.yaml").read_text()

    assert shipped == crd_text(keep=True), (
        "run: python -m celeriac.spec.crd > charts/celeriac-crds/templates/messagequeues.yaml"
    )
    assert "{{" not in shipped


def test_helm_keeps_the_crd_and_kubectl_does_not_need_to_know() -> None:
    annotation = {"helm.sh/resource-policy": "keep"}

    assert yaml.safe_load(crd_text(keep=True))["metadata"]["annotations"] == annotation
    assert yaml.safe_load(crd_text()) == crd()


@pytest.mark.parametrize(("path", "schema"), FIELDS, ids=[path for path, _ in FIELDS])
def test_every_field_is_structural_and_bounded(path: str, schema: Schema) -> None:
    assert not {"$ref", "anyOf", "oneOf", "allOf", "not", "title", "nullable"} & schema.keys()
    match schema.get("type"):
        case "string":
            assert "enum" in schema or "maxLength" in schema
        case "integer":
            assert {"minimum", "maximum"} <= schema.keys()
        case "array":
            assert "maxItems" in schema
        case "object" if "properties" not in schema:
            assert "maxProperties" in schema
        case "object" | "boolean":
            pass
        case None:
            assert schema.keys() & {
                "x-kubernetes-int-or-string",
                "x-kubernetes-preserve-unknown-fields",
            }
        case other:
            pytest.fail(f"{path} is a {other}: floats and nulls have no place in the API")
    if not path.endswith(("[]", "{}")):
        assert schema["description"].endswith("."), path


def test_unknown_fields_are_kept_only_where_kubernetes_or_the_task_defines_them() -> None:
    kept = [path for path, schema in FIELDS if "x-kubernetes-preserve-unknown-fields" in schema]

    assert kept == [
        ".spec.worker.podTemplate.spec",
        ".spec.schedules[].args[]",
        ".spec.schedules[].kwargs",
    ]


def test_lists_of_named_things_are_maps() -> None:
    keys = {
        path: schema["x-kubernetes-list-map-keys"]
        for path, schema in FIELDS
        if schema.get("x-kubernetes-list-type") == "map"
    }

    assert keys == {
        ".spec.worker.env": ["name"],
        ".spec.schedules": ["name"],
        ".status.conditions": ["type"],
        ".status.schedules": ["name"],
    }


def test_every_rule_of_every_model_is_in_the_schema_and_told_in_one_line() -> None:
    declared = {rule.cel for model in models(SpecModel) for rule in model.rules}
    rules = [
        rule for _, schema in walk(root()) for rule in schema.get("x-kubernetes-validations", [])
    ]

    assert {rule["rule"] for rule in rules} == declared
    for rule in rules:
        assert "must" in rule["message"]
        assert "\n" not in rule["message"]


def models(model: type[SpecModel]) -> Iterator[type[SpecModel]]:
    for inner in model.__subclasses__():
        yield inner
        yield from models(inner)


def test_scale_names_fields_that_exist() -> None:
    paths = crd()["spec"]["versions"][0]["subresources"]["scale"]
    names = {path for path, _ in FIELDS}

    assert set(paths.values()) <= names
    # Without a value there, reading /scale fails on the API server.
    assert root()["properties"]["spec"]["properties"]["replicas"]["default"] == 0


def test_defaults_are_valid_and_those_of_the_models() -> None:
    """An object that the API server filled in is the same as one that pydantic filled in."""
    bare = {
        "apiVersion": "celeriac.dev/v1alpha1",
        "kind": "MessageQueue",
        "metadata": {"name": "a"},
        "spec": {"worker": {"app": "a"}},
    }
    filled = {**bare, "spec": fill(bare["spec"], root()["properties"]["spec"])}

    assert MessageQueue.model_validate(filled) == MessageQueue.model_validate(bare)


def fill(value: Any, schema: Schema) -> Any:
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    added = {name: it["default"] for name, it in properties.items() if "default" in it}
    return {name: fill(it, properties.get(name, {})) for name, it in (added | value).items()}


def test_status_has_no_defaults_but_that_nobody_has_looked_yet() -> None:
    given = {
        path: it["default"] for path, it in FIELDS if path.startswith(".status") and "default" in it
    }
    assert given == {".status": {"observedGeneration": -1}}
    generation = next(it for path, it in FIELDS if path == ".status.observedGeneration")
    assert generation["minimum"] == -1, "else the API server refuses its own default"


def test_columns_and_names() -> None:
    spec = crd()["spec"]
    columns = spec["versions"][0]["additionalPrinterColumns"]

    assert [it["name"] for it in columns if not it.get("priority")] == [
        "Ready",
        "Replicas",
        "Depth",
        "Dead",
        "Age",
    ]
    assert [it["name"] for it in columns if it.get("priority") == 1] == ["Reason"]
    assert spec["names"]["shortNames"] == ["mq"]
    assert spec["names"]["categories"] == ["celeriac"]


def test_every_field_has_a_docstring() -> None:
    for model in models(SpecModel):
        if model.__module__.startswith("celeriac."):
            assert set(module.field_docs(model)) == {
                it.alias or name for name, it in model.model_fields.items()
            }
