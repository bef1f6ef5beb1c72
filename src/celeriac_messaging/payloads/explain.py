"""A validation error as one line for people: the field, and what would be right there.

The line never repeats a value: it is kept with dead letters and written to logs.
"""

from __future__ import annotations

from pydantic import ValidationError

SHOWN_ERRORS = 5
_UNIONS = ("recipient", "target")
"""Fields whose kind is told by `channel`; pydantic puts the kind into the path, people do not."""


def explain(name: str, error: ValidationError) -> str:
    """Every field with what would be right, at most `SHOWN_ERRORS` of them."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [_line(name, one["loc"], one["type"], one["msg"]) for one in found[:SHOWN_ERRORS]]
    if len(found) > SHOWN_ERRORS:
        lines.append(f"and {len(found) - SHOWN_ERRORS} more")
    return "; ".join(lines)


def _line(name: str, location: tuple[int | str, ...], kind: str, message: str) -> str:
    path = _path(name, location)
    match kind:
        case "missing":
            return f"{path}: is required"
        case "union_tag_not_found":
            return f"{path}.channel: is required"
        case "extra_forbidden":
            return f"{path}: is not a field of this payload"
        case "value_error":
            return f"{path}: {message.removeprefix('Value error, ')}"
        case "union_tag_invalid":
            return f"{path}.channel: must be one of {message.rpartition('tags: ')[2]}"
    return f"{path}: {message[0].lower()}{message[1:]}"


def _path(name: str, location: tuple[int | str, ...]) -> str:
    path, previous = name, None
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif previous not in _UNIONS:
            path += f".{part[:64]}"
        previous = part
    return path
