"""Write the generated parts of docs/: a MessageQueue's fields, every command's help, Celery's names.

    python scripts/render_docs.py            write them
    python scripts/render_docs.py --check    exit with 1 when they are out of date

Only what stands between a page's `<!-- generated -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
from celery.app.defaults import NAMESPACES, flatten

from celeriac.cli import cli
from celeriac.spec.conditions import ConditionType, Reason
from celeriac.spec.crd import crd
from celeriac.worker import celery_names as celery

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- generated -->", "<!-- end -->"

Schema = dict[str, Any]


def spec_reference() -> str:
    """Tables of all fields of `spec`, one for each section."""
    root = _schema("spec")
    plain = {name: it for name, it in root["properties"].items() if not _inner(it)}
    lines = [_HEAD, *_rows({"properties": plain, "required": root.get("required", [])}, "", {})]
    seen: dict[str, str] = {}
    for name, schema in root["properties"].items():
        if name in plain:
            continue
        lines += ["", f"## {name}{_mark(schema)}", "", schema["description"], "", _HEAD]
        lines += _rows(_inner(schema) or {}, "", seen, section=name)
        lines += ["", *(f"- {rule}." for rule in dict.fromkeys(_rules(schema)))]
    return "\n".join([*lines, "", status_reference()])


def status_reference() -> str:
    """Tables of the fields of `status`, of its conditions, and of all their reasons."""
    return "\n".join(
        [
            *(
                "## status",
                "",
                "What became of it, as the operator or `celeriac up` saw it last.",
                "",
            ),
            *("| field | type | |", "|---|---|---|", *_plain_rows(_schema("status"), ""), ""),
            *("### Conditions", "", "| type | |", "|---|---|"),
            *(f"| `{name}` | {text} |" for name, text in _members(ConditionType)),
            *("", "### Reasons", "", "Tools may match them; none is ever renamed.", ""),
            *("| reason | |", "|---|---|"),
            *(f"| `{name}` | {text} |" for name, text in _members(Reason)),
        ]
    )


def _schema(part: str) -> Schema:
    root = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: Schema = root["properties"][part]
    return found


def _members(enum: type[StrEnum]) -> Iterator[tuple[str, str]]:
    """The members of an enumeration, each with the text below it."""
    (body,) = ast.parse(inspect.getsource(enum)).body
    for member, text in itertools.pairwise(getattr(body, "body", ())):
        match member, text:
            case ast.Assign(value=ast.Constant(name)), ast.Expr(ast.Constant(meaning)):
                yield str(name), str(meaning)


_HEAD = "| field | type | default | |\n|---|---|---|---|"


def _rows(schema: Schema, prefix: str, seen: dict[str, str], section: str = "") -> Iterator[str]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}{_mark(field)}"
        default = "*required*" if name in required else _default(field)
        text = field.get("description", "").replace("|", "\\|")
        inner = _inner(field)
        shape = json.dumps(inner, sort_keys=True) if inner else ""
        if inner and shape in seen:
            text += f" Fields as in `{seen[shape]}`."
        yield f"| `{path}` | {_kind(field)} | {default} | {text} |"
        if inner and shape not in seen:
            seen[shape] = f"{section}.{path}"
            yield from _rows(inner, f"{path}.", seen, section)


def _plain_rows(schema: Schema, prefix: str) -> Iterator[str]:
    """Rows of what nobody writes by hand: neither limits nor defaults matter."""
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}{_mark(field)}"
        kind = _kind(field).partition(",")[0]
        yield f"| `{path}` | {kind} | {field.get('description', '')} |"
        if inner := _inner(field):
            yield from _plain_rows(inner, f"{path}.")


def _inner(schema: Schema) -> Schema | None:
    """The object inside an object or a list of objects, when its fields are known."""
    inner = schema.get("items", schema)
    if "properties" not in inner:
        return None
    return {name: inner[name] for name in ("properties", "required") if name in inner}


def _mark(schema: Schema) -> str:
    return "[]" if schema.get("type") == "array" else ""


def _kind(schema: Schema) -> str:
    if "enum" in schema:
        return " · ".join(schema["enum"])
    kind = {"integer": "number", "array": "list", "object": "map", "boolean": "true or false"}
    known: str = schema.get("type", "any")
    text = kind.get(known, known)
    if "minimum" in schema and "maximum" in schema:
        text += f", {schema['minimum']} to {schema['maximum']}"
    elif "maxLength" in schema:
        text += f", up to {schema['maxLength']} characters"
    elif "maxItems" in schema:
        text += f", up to {schema['maxItems']}"
    return text


def _default(schema: Schema) -> str:
    if schema.get("default") in (None, "", [], {}) or _inner(schema):
        return ""
    value = schema["default"]
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _rules(schema: Schema) -> Iterator[str]:
    """What must hold over several fields, anywhere in a section."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield rule["message"]
    for field in schema.get("items", schema).get("properties", {}).values():
        yield from _rules(field)


def command_reference() -> str:
    """The help of every command, as a terminal shows it."""
    return "\n".join(_help(cli, "celeriac", None))


def _help(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = command.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=100, max_content_width=100
    )
    yield f"\n## {context.command_path}\n\n```\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for inner_name in command.list_commands(context):
            if inner := command.get_command(context, inner_name):
                yield from _help(inner, inner_name, context)


def celery_names() -> str:
    """What becomes of Celery's names, a table for each kind."""
    settings = {name: celery.fate_of(name) for name, _ in flatten(NAMESPACES)}
    kinds: dict[str, Mapping[str, celery.Fate | None]] = {
        "Settings": settings,
        "Attributes of a task": celery.ATTRIBUTES,
        "Options of `apply_async` and `send_task`": celery.OPTIONS,
        "Signals": celery.SIGNALS,
    }
    lines: list[str] = []
    for title, names in kinds.items():
        lines += [f"### {title}", "", "| name | | |", "|---|---|---|"]
        kept = [
            f"`{name}`" for name, fate in sorted(names.items()) if fate and fate.verdict == "kept"
        ]
        for name, fate in sorted(names.items()):
            if fate is not None and fate.verdict != "kept":
                lines.append(f"| `{name}` | {fate.verdict} | {fate.text} |")
        lines += ["", f"Kept: {', '.join(kept)}.", ""]
    return "\n".join(lines)


def render(page: str, generated: str) -> str:
    """A page with its generated part replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{generated.strip()}\n{END}{after}"


PAGES = {
    "queue-spec.md": spec_reference,
    "cli.md": command_reference,
    "celery.md": celery_names,
}


def stale() -> list[str]:
    """Write nothing; name the pages that are out of date."""
    texts = {name: (DOCS / name).read_text() for name in PAGES}
    return [name for name, text in texts.items() if render(text, PAGES[name]()) != text]


def main(arguments: list[str]) -> int:
    """Write the pages, or check them."""
    out_of_date = stale()
    if arguments == ["--check"]:
        for name in out_of_date:
            print(f"docs/{name} is out of date: run `make docs`")
        return bool(out_of_date)
    for name in out_of_date:
        path = DOCS / name
        path.write_text(render(path.read_text(), PAGES[name]()))
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
