"""Why a write is refused: the server lacks memory, disk or replicas, or the queue is a newer release's.

A script is refused whole before it begins, so nothing was written, and sending it again is safe. What the
server says of it speaks of scripts and flags; here it is said for people.
"""

from __future__ import annotations

from redis.exceptions import OutOfMemoryError, ResponseError

#: Said in place of MOVED, which only a client that takes a node for a server ever sees.
OF_A_CLUSTER = "this server is a node of a cluster, whose URL is celeriac+cluster://host:port"


class BrokerRefuses(ResponseError):
    """The broker accepts no messages at the moment, and wrote nothing; it may later."""


class NewerLayout(BrokerRefuses):
    """A newer release has written to the queue what this one may not understand; it changed nothing."""


class BrokerFull(OutOfMemoryError, BrokerRefuses):
    """The broker has reached its maxmemory."""


def explained(error: ResponseError) -> ResponseError:
    """Say what a refusal means; any other error comes back as it is."""
    text = str(error)
    if text.startswith("NEWERLAYOUT"):
        return NewerLayout(text.partition(" ")[2])
    if isinstance(error, OutOfMemoryError):
        return BrokerFull(
            "the broker is full and accepts no messages until there is room below its maxmemory; "
            f"it wrote nothing ({text})"
        )
    if text.startswith("NOREPLICAS"):
        return BrokerRefuses(
            "the broker accepts no messages while fewer replicas are in reach than its "
            f"min-replicas-to-write; it wrote nothing ({text})"
        )
    if text.startswith("MISCONF"):
        return BrokerRefuses(
            "the broker cannot write to its disk and accepts no messages until it can; it wrote "
            f"nothing ({text})"
        )
    return error
