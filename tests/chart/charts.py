"""Runs helm, and reads what it renders."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
NAMES = ("celeriac-crds", "celeriac", "messaging")
NAMESPACE = "celeriac"

Object = dict[str, Any]


class HelmError(Exception):
    """Helm refused; the text is what it said."""


@dataclass(frozen=True)
class Helm:
    """The helm program, here or in a network namespace, with or without a cluster."""

    command: tuple[str, ...]
    environment: Mapping[str, str]

    def run(self, *args: str | Path, stdin: str | None = None) -> str:
        """Run helm and return what it prints. Raises HelmError."""
        done = subprocess.run(
            [*self.command, *map(str, args)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=dict(self.environment),
        )
        if done.returncode != 0:
            raise HelmError(done.stderr + done.stdout)
        return done.stdout

    def render(
        self, chart: str, values: Object | None = None, *, release: str = ""
    ) -> list[Object]:
        """Render a chart as a release of its own name, hooks included."""
        text = self.run(
            *("template", release or chart, CHARTS / chart),
            *("--namespace", NAMESPACE, "--values", "-"),
            stdin=json.dumps(values or {}),
        )
        return objects(text)


def objects(text: str) -> list[Object]:
    """The objects of a rendering; a key that stands twice in a map is an error."""
    return [it for it in yaml.load_all(text, Loader=_Strict) if it]


class _Strict(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise ValueError(f"twice in one map: {twice}{node.start_mark}")
        return dict(super().construct_mapping(node, deep=deep))


def find(rendering: list[Object], kind: str, name: str = "") -> Object:
    """The only object of a kind, or of a kind and name."""
    found = [it for it in rendering if it["kind"] == kind and name in ("", it["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def kinds(rendering: list[Object]) -> set[str]:
    """The kinds of objects in a rendering."""
    return {it["kind"] for it in rendering}


def pods(rendering: list[Object]) -> Iterator[tuple[str, Object]]:
    """The pod specs in a rendering, each with the kind and name of what holds it."""
    for it in rendering:
        title = f"{it['kind']} {it['metadata']['name']}"
        if it["kind"] == "Pod":
            yield title, it["spec"]
        elif "template" in it.get("spec", {}):
            spec = it["spec"]["template"]["spec"]
            claims = [it["metadata"] for it in it["spec"].get("volumeClaimTemplates", [])]
            yield title, {**spec, "volumes": [*spec.get("volumes", []), *claims]}


def is_hook(it: Object) -> bool:
    """Whether an object is there for `helm test` only."""
    return "helm.sh/hook" in it["metadata"].get("annotations", {})


def nested(path: str, value: Any) -> Object:
    """The values that set one path: image.tag."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def merged(own: Object, over: Object) -> Object:
    """Maps laid over one another, as Helm does with values."""
    result = copy.deepcopy(own)
    for key, value in over.items():
        inner = result.get(key)
        result[key] = (
            merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
        )
    return result
