"""What a person sees when something is wrong: what, where, and what to do; never a traceback.

Exit codes are a contract: 0 fine, 1 failed, 2 bad input, 3 broker unreachable.
"""

from __future__ import annotations

from typing import IO, Any

import click

from celeriac.spec.errors import CeleriacError

FAILED, BAD_INPUT, UNREACHABLE = 1, 2, 3


class Problem(CeleriacError, click.ClickException):
    """An error, and under it what to do about it."""

    exit_code = FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        """Print both to standard error."""
        click.echo(f"Error: {self.message}", file=file, err=True)
        if self.hint:
            click.echo(self.hint, file=file, err=True)


class BadInput(Problem):
    """The caller must change something: a flag, a file, a name."""

    exit_code = BAD_INPUT


class Unreachable(Problem):
    """There is no broker to talk to."""

    exit_code = UNREACHABLE


def unknown_name(kind: str, name: str, known: list[str]) -> BadInput:
    """Say that a name does not exist, with the closest one that does."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    if close:
        hint = f"Did you mean {close[0]!r}?"
    elif known:
        hint = f"There are: {', '.join(known[:20])}."
    else:
        hint = f"There is no {kind} at all yet; declare some with: celeriac up -f queues.yaml"
    return BadInput(f"there is no {kind} {name!r}", hint=hint)
