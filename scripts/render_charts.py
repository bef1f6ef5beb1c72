"""Write the generated parts of charts/: what is copied into them, the READMEs' tables, a schema.

    python -m scripts.render_charts            write them
    python -m scripts.render_charts --check    exit with 1 when they are out of date

- files/ holds copies of sources elsewhere in the tree, since a chart sees nothing outside itself;
- a README's table lists the values with their defaults and their `# --` comments;
- values.schema.json of the messaging chart ends in the fields of a MessageQueue, so that Helm
  refuses a mistyped one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from celeriac.spec.crd import crd
from scripts.render_docs import render

ROOT = Path(__file__).resolve().parent.parent
CHARTS = ROOT / "charts"

#: Copies, and what they are copies of.
COPIES = {
    "charts/celeriac/files/rbac.yaml": "operator/celeriac_operator/rbac.yaml",
    "charts/messaging/files/queues.yaml": "src/celeriac_messaging/queues.yaml",
}


@dataclass(frozen=True, slots=True)
class Value:
    """A value that a user may set."""

    path: str
    """As `--set` takes it: image.tag."""
    default: Any
    text: str
    """What its comment says; empty when there is none."""


def values(chart: Path) -> list[Value]:
    """Read all values of a chart, in order, with their comments."""
    text = (chart / "values.yaml").read_text()
    root = cast("yaml.MappingNode", yaml.compose(text))
    return list(_values(root, text.splitlines(), ""))


def _values(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Value]:
    for key, inner in node.value:
        path = prefix + key.value
        text = _comment(lines, key.start_mark.line)
        # A map whose comment describes it whole is one value; else each of its keys is one.
        if isinstance(inner, yaml.MappingNode) and not text and inner.value:
            yield from _values(inner, lines, path + ".")
        else:
            yield Value(path, yaml.safe_load(yaml.serialize(inner)), text)


def _comment(lines: list[str], key_line: int) -> str:
    """The `# --` comment right above a line."""
    line = lines[key_line - 1].strip() if key_line else ""
    return line.removeprefix("# -- ") if line.startswith("# -- ") else ""


def values_table(chart: Path) -> str:
    """A table of all values."""
    rows = ["| value | default | |", "|---|---|---|"]
    for value in values(chart):
        default = json.dumps(value.default, ensure_ascii=False)
        text = value.text.replace("|", "\\|")
        rows.append(f"| `{value.path}` | `{default}` | {text} |")
    return "\n".join(rows)


def queue_fields() -> dict[str, Any]:
    """What may be laid over a MessageQueue's spec, as a JSON schema: every field, and none needed."""
    root = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    partial: dict[str, Any] = _partial(root)
    return partial


_KEPT = ("type", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "maxItems")


def _partial(schema: dict[str, Any]) -> dict[str, Any]:
    found = {key: schema[key] for key in _KEPT if key in schema}
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    if "properties" in schema:
        found["properties"] = {k: _partial(it) for k, it in schema["properties"].items()}
        found["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _partial(schema["additionalProperties"])
    if "items" in schema:
        found["items"] = _partial(schema["items"])
    return found


def messaging_schema(text: str) -> str:
    """The schema of the messaging chart with its last part made anew: what a queue may have."""
    begin = '    "queue": {'
    kept = text[: text.index(begin)]
    queue = queue_fields()
    fields = [f'        "{name}": {json.dumps(it)}' for name, it in queue["properties"].items()]
    return "\n".join(
        [
            f"{kept}{begin}",
            '      "type": "object",',
            '      "additionalProperties": false,',
            '      "properties": {',
            ",\n".join(fields),
            "      }\n    }\n  }\n}\n",
        ]
    )


def _readme(chart: Path) -> Callable[[str], str]:
    return lambda text: render(text, values_table(chart))


def _copy(source: str) -> Callable[[str], str]:
    return lambda _: (ROOT / source).read_text()


#: Every generated file, and how to make it from what it is now.
MADE: dict[str, Callable[[str], str]] = {
    **{target: _copy(source) for target, source in COPIES.items()},
    "charts/celeriac/README.md": _readme(CHARTS / "celeriac"),
    "charts/messaging/README.md": _readme(CHARTS / "messaging"),
    "charts/messaging/values.schema.json": messaging_schema,
}


def stale() -> list[str]:
    """Write nothing; name the files that are out of date."""
    texts = {name: (ROOT / name).read_text() for name in MADE}
    return [name for name, text in texts.items() if MADE[name](text) != text]


def main(arguments: list[str]) -> int:
    """Write the files, or check them."""
    out_of_date = stale()
    for name in out_of_date:
        if arguments == ["--check"]:
            print(f"{name} is out of date: run `make docs`")
        else:
            path = ROOT / name
            path.write_text(MADE[name](path.read_text()))
            print(f"wrote {name}")
    return bool(out_of_date) if arguments == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
