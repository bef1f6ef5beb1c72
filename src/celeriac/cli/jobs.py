"""Reads jobs as people write them: one JSON object a line, or the options of `celeriac send`.

    {"task": "app.greet", "args": ["Ada"], "kwargs": {}, "priority": "high", "delay": "5s"}

Every problem is a ValueError that names the key and what would be right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, cast

from celeriac.cli.durations import parse as parse_duration

Priority = Literal["high", "normal", "low"]
PRIORITIES = ("high", "normal", "low")
KEYS = ("task", "args", "kwargs", "id", "priority", "delay", "expires", "dedupKey")


@dataclass(frozen=True, slots=True)
class Draft:
    """A message as asked for; it becomes a `celeriac.client.Job` when it is sent."""

    task: str = ""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None
    id: str | None = None
    priority: Priority = "normal"
    delay: timedelta = timedelta()
    expires: timedelta | None = None
    dedup_key: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file: a draft, or what is wrong with it."""

    number: int
    draft: Draft | None
    problem: str = ""


def read_lines(lines: Iterable[str], defaults: Draft, *, start: int = 1) -> Iterator[Line]:
    """Read a JSON Lines file lazily; empty lines are skipped, wrong ones have a problem."""
    for number, text in enumerate(lines, 1):
        if number < start or not text.strip():
            continue
        try:
            yield Line(number, read_line(text, defaults))
        except ValueError as error:
            yield Line(number, None, str(error))


def read_line(text: str, defaults: Draft) -> Draft:
    """Read one job. What the line leaves out comes from ``defaults``."""
    try:
        value = json.loads(text, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(value, dict):
        raise ValueError('not a job: write an object such as {"task": "app.hello", "args": []}')
    unknown = [key for key in value if key not in KEYS]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; the keys are {', '.join(KEYS)}")
    draft = replace(
        defaults, **{name: field(value) for name, field in FIELDS.items() if field.given(value)}
    )
    if not draft.task:
        raise ValueError("no task: add the key 'task', or name one on the command line")
    return draft


def no_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python reads and JSON does not know."""
    raise ValueError(f"{name} is not JSON; write null or a number")


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a line and how its value is read."""

    key: str
    kind: Literal["text", "list", "object", "priority", "duration"]

    def given(self, value: dict[str, Any]) -> bool:
        """Tell whether a line has the key, and not null."""
        return value.get(self.key) is not None

    def __call__(self, line: dict[str, Any]) -> Any:
        """Read the key's value. Raise ValueError that says what would be right."""
        value = line[self.key]
        if self.kind == "text" and isinstance(value, str) and value:
            return value
        if self.kind == "list" and isinstance(value, list):
            return tuple(value)
        if self.kind == "object" and isinstance(value, dict):
            return value
        if self.kind == "priority" and value in PRIORITIES:
            return cast(Priority, value)
        if self.kind == "duration":
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError(f'key {self.key!r}: write a duration such as "5s"')
            try:
                return parse_duration(value)
            except ValueError as error:
                raise ValueError(f"key {self.key!r}: {error}") from error
        wanted = {
            "text": "a string that is not empty",
            "list": "a list",
            "object": "an object",
            "priority": f"one of {', '.join(PRIORITIES)}",
        }[self.kind]
        raise ValueError(f"key {self.key!r} must be {wanted}, not {json.dumps(value)[:60]}")


FIELDS = {
    "task": Field("task", "text"),
    "args": Field("args", "list"),
    "kwargs": Field("kwargs", "object"),
    "id": Field("id", "text"),
    "priority": Field("priority", "priority"),
    "delay": Field("delay", "duration"),
    "expires": Field("expires", "duration"),
    "dedup_key": Field("dedupKey", "text"),
}
