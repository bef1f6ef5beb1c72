"""Redis Cluster's arithmetic: which of 16384 slots a key belongs to, and who serves a slot. Pure."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SLOTS = 16384

Address = tuple[str, int]

_SCRIPTS = frozenset(("EVALSHA", "EVAL"))
_KEYLESS = frozenset(
    ("ACL", "CLIENT", "CLUSTER", "CONFIG", "ECHO", "INFO", "PING", "SCRIPT", "TIME", "WAIT")
)


def slot_of(key: str | bytes) -> int:
    """The slot of a key: that of its hash tag `{...}` when it has one."""
    data = key.encode() if isinstance(key, str) else key
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    return crc_hqx(data, 0) % SLOTS


def key_of(args: Sequence[Any]) -> str | bytes | None:
    """The first key of a command, as our own commands have it; None for one without keys."""
    name = args[0]
    if is_script(args):
        return args[3] if int(args[2]) else None
    if name.partition(" ")[0] in _KEYLESS or len(args) < 2:
        return None
    key: str | bytes = args[1]
    return key


def is_script(args: Sequence[Any]) -> bool:
    """Whether a command runs a script."""
    return args[0] in _SCRIPTS


def guarded(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Name to a script one more key, which never exists, so that it is refused while its slot moves.

    Nodes disown the missing keys of a slot that moves. A script whose keys are all there would start, and
    be stopped half-way by the first key that it removes or makes; one with a missing key does not start.
    """
    if not is_script(args) or not int(args[2]):
        return args
    count = int(args[2])
    at = 3 + count
    return (args[0], args[1], count + 1, *args[3:at], f"{args[3]}:never", *args[at:])


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Who serves what, as one node of the cluster sees it."""

    primaries: list[Address | None]
    """By slot; None where nobody serves it."""
    nodes: frozenset[Address]
    """All nodes with slots, and their replicas."""

    @classmethod
    def parse(cls, answer: Sequence[Any], *, asked: str) -> SlotMap:
        """Read the answer to CLUSTER SLOTS; a node that calls itself nothing is at the host we asked."""
        primaries: list[Address | None] = [None] * SLOTS
        nodes: set[Address] = set()
        for first, last, *serving in answer:
            addresses = [_address(node, asked) for node in serving]
            primaries[first : last + 1] = [addresses[0]] * (last + 1 - first)
            nodes.update(addresses)
        return cls(primaries, frozenset(nodes))


def _address(node: Sequence[Any], asked: str) -> Address:
    host = node[0] or b""
    name = host.decode() if isinstance(host, bytes) else host
    return (asked if name in ("", "?") else name), int(node[1])
