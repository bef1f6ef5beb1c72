"""Why the broker did not do what was asked: it cannot be reached, or it refuses.

Every error of redis-py leaves the queue as a BrokerError that is still of redis-py's class, so whoever caught
`redis.ConnectionError` goes on catching it.

A script is refused whole before it begins, when the server lacks memory, disk or replicas, or the queue is a
newer release's: nothing was written, and sending it again is safe. What the server says of it speaks of
scripts and flags; here it is said for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import (
    ConnectionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from celeriac.spec.errors import CeleriacError

#: Said in place of MOVED, which only a client that takes a node for a server ever sees.
OF_A_CLUSTER = "this server is a node of a cluster, whose URL is celeriac+cluster://host:port"


class BrokerError(CeleriacError, RedisError):
    """The broker did not do what was asked; `__cause__` is what redis-py said."""


class BrokerUnreachable(BrokerError, ConnectionError):
    """There is no broker, or it did not answer in time; what was on its way may have been accepted."""


class BrokerRefuses(BrokerError, ResponseError):
    """The broker accepts no messages at the moment, and wrote nothing; it may later."""


class NewerLayout(BrokerRefuses):
    """A newer release has written to the queue what this one may not understand; it changed nothing."""


class BrokerFull(BrokerRefuses, OutOfMemoryError):
    """The broker has reached its maxmemory."""


def ours(error: RedisError) -> BrokerError:
    """Make an error of redis-py one of ours: of the same class still, with the same text."""
    if isinstance(error, BrokerError):
        return error
    unreachable = isinstance(error, ConnectionError | TimeoutError)
    made = _made(BrokerUnreachable if unreachable else BrokerError, type(error), error.args)
    made.__dict__.update(error.__dict__)
    return made


@contextmanager
def errors_of_ours() -> Iterator[None]:
    """Raise what redis-py raises as errors of ours."""
    try:
        yield
    except BrokerError:
        raise
    except RedisError as error:
        raise ours(error) from error


def _made(base: type[BrokerError], kind: type[RedisError], args: tuple[Any, ...]) -> BrokerError:
    # Without __init__: some of redis-py's parse what a server said.
    both = _both(base, kind)
    return both.__new__(both, *args)


_CLASSES: dict[tuple[type[BrokerError], type[RedisError]], type[BrokerError]] = {}


def _both(base: type[BrokerError], kind: type[RedisError]) -> type[BrokerError]:
    """Make a class that is the one and the other; pickle finds it again by both."""
    if issubclass(base, kind):
        return base

    def reduced(it: BrokerError) -> tuple[Any, ...]:
        return _made, (base, kind, it.args), it.__dict__

    body = {"__module__": __name__, "__reduce__": reduced}
    return _CLASSES.setdefault((base, kind), type(kind.__name__, (base, kind), body))


def explained(error: ResponseError) -> BrokerError:
    """Say what a refusal means; any other error is made one of ours as it is."""
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
    return ours(error)
