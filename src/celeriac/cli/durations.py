"""Durations as people write them: ``5s``, ``250ms``, ``1h30m``, ``7d``, or plain seconds."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_LONGEST_MS = 366 * 86_400_000


def parse(text: str | float) -> timedelta:
    """Read a duration. Raise ValueError that says what would be right."""
    written = str(text).strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", written):
        written += "s"
    if not re.fullmatch(f"({_PART.pattern})+", written):
        raise ValueError(f"{text!r} is not a duration; write 5s, 250ms, 1h30m or 7d")
    ms = sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(written))
    if ms > _LONGEST_MS:
        raise ValueError(f"{text!r} is more than a year")
    return timedelta(milliseconds=round(ms))


def ago(seconds: float) -> str:
    """Write a length of time in at most two units: ``0s``, ``42s``, ``3m10s``, ``2d4h``."""
    whole = max(0, int(seconds))
    for unit, size, below, smaller in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit}" + (f"{rest}{below}" if rest else "")
    return f"{whole}s"


if TYPE_CHECKING:
    _ParamType = click.ParamType[timedelta]
else:
    _ParamType = click.ParamType  # generic in new versions of click only


class Duration(_ParamType):
    """A click parameter that becomes a timedelta."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read the option's text."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
