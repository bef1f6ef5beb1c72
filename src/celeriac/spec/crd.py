"""Writes the CustomResourceDefinition from the models: the schema, its words, its rules.

    pydantic models -> JSON schema -> structural schema (inlined, no nulls) -> CRD

Descriptions are the docstrings below the fields, rules are the models' own. Run as a module it
prints the copy that the chart ships, which Helm keeps when the chart is removed: deleting a CRD
deletes every MessageQueue in the cluster.
"""

from __future__ import annotations

import ast
import inspect
import sys
from types import ModuleType
from typing import Any

import yaml
from pydantic import BaseModel

from celeriac.spec.queue import GROUP, KIND, VERSION, MessageQueue
from celeriac.spec.rules import SpecModel
from celeriac.spec.status import NEVER_OBSERVED

Schema = dict[str, Any]

_KEPT = (
    "type",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "maxProperties",
)
_READY = '.status.conditions[?(@.type=="Ready")]'


def crd() -> dict[str, Any]:
    """Build the CustomResourceDefinition of MessageQueue."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"messagequeues.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": "messagequeues",
                "singular": "messagequeue",
                "shortNames": ["mq"],
                "categories": ["celeriac"],
            },
            "scope": "Namespaced",
            "versions": [_version()],
        },
    }


def crd_text(*, keep: bool = False) -> str:
    """Spell the CRD as YAML; ``keep`` tells Helm to leave it in the cluster."""
    resource = crd()
    if keep:
        resource["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    return yaml.dump(resource, Dumper=_Dumper, sort_keys=False, width=100)


def _version() -> Schema:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            _column("Ready", "string", f"{_READY}.status", "Whether the queue works as declared"),
            _column("Replicas", "integer", ".status.replicas", "Workers that run"),
            _column("Depth", "integer", ".status.ready", "Messages that wait for a worker"),
            _column("Dead", "integer", ".status.dead", "Dead letters"),
            _column("Age", "date", ".metadata.creationTimestamp", "When it was created"),
            {
                **_column("Reason", "string", f"{_READY}.reason", "Why it is ready or not"),
                "priority": 1,
            },
        ],
    }


def _column(name: str, type_: str, path: str, description: str) -> Schema:
    return {"name": name, "type": type_, "description": description, "jsonPath": path}


def _root() -> Schema:
    whole = MessageQueue.model_json_schema(by_alias=True)
    build = _Structural(whole["$defs"])
    spec = build.object("MessageQueueSpec")
    status = _without_defaults(build.object("MessageQueueStatus"))
    status["default"] = {"observedGeneration": NEVER_OBSERVED}
    rules = _rules(MessageQueue)
    return {
        "description": _doc(MessageQueue),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this schema."},
            "kind": {"type": "string", "description": "Kind of this resource."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        **rules,
    }


class _Structural:
    """Turns pydantic's JSON schema into what the API server takes."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self.definitions = definitions
        self.models = {model.__name__: model for model in _models(MessageQueue)}

    def object(self, name: str) -> Schema:
        """Build the schema of the model called ``name``, everything inlined."""
        model, raw = self.models[name], self.definitions[name]
        words = field_docs(model)
        properties = {
            field: _described(words[field], self.value(schema))
            for field, schema in raw["properties"].items()
        }
        result: Schema = {"description": _doc(model), "type": "object"}
        if required := raw.get("required"):
            result["required"] = required
        return {**result, "properties": properties, **_rules(model)}

    def value(self, raw: Schema) -> Schema:
        """Build the schema of a field, an item or a map's value."""
        raw, default = dict(raw), raw.get("default")
        choices = [it for it in raw.pop("anyOf", []) if it.get("type") != "null"]
        if choices:
            (choice,) = choices  # X | None; a field of ours is never one of several things
            raw |= choice
        result = self.object(raw["$ref"].rpartition("/")[2]) if "$ref" in raw else {}
        result |= {key: raw[key] for key in _KEPT if key in raw}
        if "items" in raw:
            result["items"] = self.value(raw["items"])
        if isinstance(raw.get("additionalProperties"), dict):
            result["additionalProperties"] = self.value(raw["additionalProperties"])
        result |= {key: value for key, value in raw.items() if key.startswith("x-kubernetes-")}
        if (shown := _shown_default(default)) is not None:
            result["default"] = shown
        return result


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Read the docstrings below a model's fields, by wire name. Raises KeyError if one has none."""
    documented = _attribute_docs(inspect.getmodule(model))[model.__name__]
    return {field.alias or name: documented[name] for name, field in model.model_fields.items()}


_SOURCES: dict[str, dict[str, dict[str, str]]] = {}


def _attribute_docs(module: ModuleType | None) -> dict[str, dict[str, str]]:
    assert module is not None
    if module.__name__ not in _SOURCES:
        tree = ast.parse(inspect.getsource(module))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        _SOURCES[module.__name__] = {node.name: _docs_in(node) for node in classes}
    return _SOURCES[module.__name__]


def _docs_in(node: ast.ClassDef) -> dict[str, str]:
    docs = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match text:
                case ast.Expr(value=ast.Constant(value=str(words))):
                    docs[field.target.id] = " ".join(words.split())
    return docs


def _models(root: type[SpecModel]) -> list[type[SpecModel]]:
    pending, found = list(SpecModel.__subclasses__()), []
    while pending:
        model = pending.pop()
        pending += model.__subclasses__()
        found.append(model)
    return found


def _described(words: str, schema: Schema) -> Schema:
    return (
        {**schema, "description": words}
        if "description" in schema
        else {"description": words, **schema}
    )


def _doc(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _rules(model: type[SpecModel]) -> Schema:
    rules = [{"rule": rule.cel, "message": rule.message} for rule in model.rules]
    return {"x-kubernetes-validations": rules} if rules else {}


def _shown_default(value: Any) -> Any:
    """Defaults that say nothing (null, empty text, list or map) are left out."""
    if isinstance(value, dict):
        shown = {key: _shown_default(item) for key, item in value.items()}
        return {key: item for key, item in shown.items() if item is not None} or None
    return None if value in (None, "", []) else value


def _without_defaults(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_defaults(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_defaults(value)
        for key, value in schema.items()
        if key != "default" or not isinstance(schema.get("type"), str)
    }


class _Dumper(yaml.SafeDumper):
    """Writes every value out in full: no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


if __name__ == "__main__":
    sys.stdout.write(crd_text(keep=True))
