"""What the ledger writes down: copies, leases, and the scripts that it heard of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class Copy:
    """One copy of a message."""

    id: str
    letter: str
    attempt: int = 0
    delivery: int = 0
    lost: int = 0
    state: str = "ready"
    reason: str = ""


@dataclass(slots=True)
class Lease:
    """Who holds a copy, and when the server last said so."""

    copy: Copy
    holder: str
    renewed_ms: int
    late: bool
    """Whether the holder had given up before he was given it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One script that was carried out."""

    name: str
    args: tuple[str, ...]
    answer: Any
    facts: list[int]
    now_ms: int
    who: str
    """The process that asked."""
    late: bool = False
    """Whether it had given up before: nobody hears the answer, and much may have happened since."""


#: Told who is charged a delivery, and why; and whether he was never told that he holds the message, or is
#: charged by a request from the past.
OnCharge = Callable[[str, str, bool], None]


class Broken(AssertionError):
    """A promise was broken."""


def promise(kept: bool, *what: object) -> None:
    """Raise Broken unless the promise is kept."""
    if not kept:
        raise Broken(" ".join(map(str, what)))


def entry(token: str) -> tuple[int, int]:
    """The number of a lease's entry, to compare."""
    milliseconds, _, number = token.lstrip("hnli").partition("-")
    return int(milliseconds), int(number)
