"""Turns pydantic's findings into sentences that say what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from celeriac.spec.queue import MessageQueue
from celeriac.spec.text import PATTERN_HELP

Path = tuple[str | int, ...]

_KINDS = {
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "dict": "a map",
    "model": "a map",
}
_YAML_BOOLS = "YAML reads on, off, yes and no as true and false: put the word in quotes"


def advice(detail: Mapping[str, Any], path: Path) -> str:
    """Say what would be right in place of one finding. ``path`` is relative to a MessageQueue."""
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return f"is not a field here; {_nearest(str(path[-1]), path[:-1])}"
        case "literal_error":
            choices = str(context["expected"]).replace("'", "")
            if isinstance(given, bool):
                return f"must be {choices}; {_YAML_BOOLS}"
            return f"must be {choices}, not {_show(given)}{_meant(given, choices)}"
        case "rule" | "value_error":
            return str(context.get("text", detail["msg"]))
        case "string_pattern_mismatch":
            wanted = PATTERN_HELP.get(context["pattern"], f"must match {context['pattern']}")
            return f"{wanted}, not {_show(given)}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {given}"
        case "less_than_equal":
            return f"must be at most {context['le']}, not {given}"
        case "string_too_short":
            return "must not be empty" if not given else f"must be longer than {_show(given)}"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters, not {len(given)}"
        case "too_long":
            return f"must have at most {context['max_length']} entries, not {len(given)}"
    named = _KINDS.get(kind.removesuffix("_type"))
    if named is None:
        return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}"
    return f"must be {named}, not {_show(given)}{_retyped(kind, given)}"


def _retyped(kind: str, given: Any) -> str:
    """Guess how a value of the wrong type was meant."""
    if kind == "string_type" and isinstance(given, bool):
        return f"; {_YAML_BOOLS}"
    if kind == "string_type" and isinstance(given, int | float):
        return f'; put it in quotes: "{given}"'
    if kind == "int_type" and isinstance(given, float) and given.is_integer():
        return f"; write {int(given)}"
    if kind == "int_type" and isinstance(given, str) and given.strip().isdigit():
        return f"; write {given.strip()} without quotes"
    return ""


def _meant(given: Any, choices: str) -> str:
    names = choices.replace(" or ", ", ").split(", ")
    found = _closest(str(given), names)
    return f"; did you mean {found}?" if found else ""


def _nearest(name: str, path: Path) -> str:
    fields = _fields_at(path)
    if found := _closest(to_camel(name), fields):
        return f"did you mean {found}?"
    # The right name in the wrong place is as common as a slip of the finger.
    elsewhere = [place for place, field in _all_fields(MessageQueue, "") if field == name]
    elsewhere = [place for place in elsewhere if not place.startswith("status.")]
    if len(elsewhere) == 1:
        return f"did you mean {elsewhere[0]}?"
    return f"known fields: {', '.join(sorted(fields))}" if fields else "remove it"


def _closest(name: str, names: list[str]) -> str | None:
    by_lower = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def _fields_at(path: Path) -> list[str]:
    model: Any = MessageQueue
    for part in path:
        field = (
            next((it for n, it in model.model_fields.items() if part in (it.alias, n)), None)
            if isinstance(part, str)
            else None
        )
        if field is not None:
            model = _model_in(field.annotation)
        if model is None:
            return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _all_fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        alias = field.alias or name
        yield f"{prefix}{alias}", alias
        inner = _model_in(field.annotation)
        if inner is not None:
            mark = "[]" if get_origin(field.annotation) is list else ""
            yield from _all_fields(inner, f"{prefix}{alias}{mark}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Find the model inside list[M], M | None and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _show(given: Any) -> str:
    if given is None:
        return "empty"
    if isinstance(given, dict):
        return "a map"
    if isinstance(given, list):
        return "a list"
    if isinstance(given, bool):
        return "true" if given else "false"
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."
