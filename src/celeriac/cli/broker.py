"""Which broker a command talks to, and what is said when it does not answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from celeriac.broker.nearby import FOLDER
from celeriac.cli.errors import BadInput, Problem, Unreachable, unknown_name
from celeriac.cli.state import StateFolder

if TYPE_CHECKING:
    import redis

    from celeriac.broker.queue import Queue
    from celeriac.broker.url import BrokerURL

F = TypeVar("F", bound=Callable[..., object])

ENVIRONMENT = "CELERIAC_BROKER_URL"


@dataclass(frozen=True, slots=True)
class Choice:
    """A broker URL and where it came from."""

    url: str
    source: str


@dataclass(frozen=True, slots=True)
class BrokerConnection:
    """A connected broker."""

    client: redis.Redis
    url: BrokerURL
    choice: Choice

    @property
    def prefix(self) -> str:
        """What every key begins with."""
        return self.url.prefix

    @property
    def servers(self) -> dict[str, redis.Redis]:
        """A client of each server that holds queues, by its address: all primaries of a cluster."""
        from celeriac.broker.cluster import servers

        return servers(self.client)

    def queue(self, name: str) -> Queue:
        """Open a queue, which need not exist."""
        from celeriac.broker.queue import Queue

        return Queue(self.client, name, prefix=self.prefix)

    def names(self) -> list[str]:
        """Name all queues of the broker."""
        from celeriac.broker.bulk_stats import queue_names

        return queue_names(self.client, prefix=self.prefix)

    def known_queue(self, name: str) -> Queue:
        """The queue, which must exist. Raise BadInput with the closest name when it does not."""
        names = self.names()
        if name not in names:
            raise unknown_name("queue", name, names)
        return self.queue(name)


def broker_option(command: F) -> F:
    """Add ``--broker`` to a command."""
    return click.option(
        "--broker",
        metavar="URL",
        help=f"The broker, e.g. celeriac://:password@host:6379/0. Default: ${ENVIRONMENT}, else "
        "the `celeriac up` that runs in this folder.",
    )(command)


def choose(option: str | None) -> Choice:
    """Find the broker: the option, the environment, the `up` in this folder, in this order."""
    if option:
        return Choice(option, "--broker")
    if os.environ.get(ENVIRONMENT):
        return Choice(os.environ[ENVIRONMENT], f"${ENVIRONMENT}")
    url = StateFolder().broker().get("url")
    if isinstance(url, str):
        return Choice(url, f"{FOLDER}/broker.json")
    raise Unreachable(
        "there is no broker to talk to",
        hint=f"Give --broker URL, or set {ENVIRONMENT}, or run `celeriac up -f queues.yaml` "
        "in this folder.",
    )


@contextmanager
def connected(option: str | None, **overrides: Any) -> Iterator[BrokerConnection]:
    """Connect for the length of a command; turn connection errors into exit code 3."""
    choice = choose(option)
    import redis

    from celeriac.broker.connection import BrokerURLError, connect, parse
    from celeriac.broker.signing import SigningKeysError

    try:
        parsed = parse(choice.url)
        client = connect(parsed, **overrides)
    except BrokerURLError as error:
        raise BadInput(f"{choice.source}: {error}") from error
    try:
        with client:
            yield BrokerConnection(client, parsed, choice)
    except SigningKeysError as error:
        raise BadInput(str(error)) from error
    except redis.exceptions.AuthenticationError as error:
        raise Unreachable(
            f"the broker {parsed.redacted()} refused the login: {error}",
            hint=f"The user and password come from {choice.source}.",
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise Unreachable(
            f"the broker {parsed.redacted()} forbids this user a command: {error}",
            hint="`celeriac doctor` lists every permission that is missing.",
        ) from error
    except redis.exceptions.MovedError as error:
        from celeriac.broker.refusal import OF_A_CLUSTER

        raise BadInput(f"{choice.source}: {parsed.redacted()}: {OF_A_CLUSTER}") from error
    except redis.exceptions.ResponseError as error:
        raise Problem(
            f"the broker {parsed.redacted()} refused: {error}",
            hint="`celeriac doctor` looks for the cause.",
        ) from error
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise Unreachable(
            f"the broker {parsed.redacted()} (from {choice.source}) does not answer: {error}",
            hint=_what_to_do(choice),
        ) from error


def _what_to_do(choice: Choice) -> str:
    if choice.source.startswith(FOLDER):
        return (
            "The `celeriac up` of this folder has ended; start it again: celeriac up -f queues.yaml"
        )
    return "Check that the server runs, and that host, port, TLS and firewall are right."
