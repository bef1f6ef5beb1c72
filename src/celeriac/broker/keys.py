"""Where a queue lives on Redis: every key under one prefix and one hash tag.

One hash tag for each queue means that a queue is whole on one Redis Cluster slot and that one ACL
pattern (``~celeriac:*``) covers everything.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PREFIX = "celeriac"

#: The order in which every script gets its keys; lua/common.lua names them again.
_SUFFIXES = (
    "high",
    "normal",
    "low",
    "isolated",
    "delayed",
    "bodies",
    "dead",
    "counters",
    "record",
    "workers",
    "wake",
    "cancelled",
)


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The key names of one queue."""

    base: str
    all: tuple[str, ...]
    wake: str
    record: str
    dead: str

    @classmethod
    def of(cls, name: str, *, prefix: str = DEFAULT_PREFIX) -> QueueKeys:
        """Name the keys of queue ``name``."""
        base = f"{prefix}:{{{name}}}:"
        return cls(
            base=base,
            all=tuple(base + suffix for suffix in _SUFFIXES),
            wake=base + "wake",
            record=base + "record",
            dead=base + "dead",
        )

    def progress(self, message_id: str) -> str:
        """Name the key that holds a message's progress."""
        return f"{self.base}progress:{message_id}"


def index_key(prefix: str) -> str:
    """Name the set that lists every queue of a prefix."""
    return f"{prefix}:queues"


def kombu_prefix(prefix: str, *, cluster: bool) -> str:
    """Name what all of kombu's keys and channels begin with.

    kombu's commands take several of its keys at once; in a cluster one hash tag holds them together.
    """
    return f"{prefix}:kombu:" + (f"{{{prefix}}}:" if cluster else "")
