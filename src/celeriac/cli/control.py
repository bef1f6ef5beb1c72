"""``celeriac pause`` and ``celeriac resume``: hold a queue without touching its spec."""

from __future__ import annotations

import click

from celeriac.cli import output
from celeriac.cli.broker import broker_option, connected


@click.command(
    epilog="""\b
Example:
  celeriac pause message-delivery message-notification""",
)
@click.argument("queues", metavar="QUEUE...", nargs=-1, required=True)
@broker_option
def pause(queues: tuple[str, ...], broker: str | None) -> None:
    """Stop handing out a queue's messages.

    Running messages are finished and new ones are accepted. Holds until `celeriac resume`.
    """
    with connected(broker) as connection:
        for queue in [connection.known_queue(name) for name in queues]:
            queue.pause()
            click.echo(f"{queue.name} paused")


@click.command(
    epilog="""\b
Example:
  celeriac resume message-delivery""",
)
@click.argument("queues", metavar="QUEUE...", nargs=-1, required=True)
@broker_option
def resume(queues: tuple[str, ...], broker: str | None) -> None:
    """Undo pause."""
    with connected(broker) as connection:
        for queue in [connection.known_queue(name) for name in queues]:
            queue.resume()
            if queue.stats().paused:
                click.echo(f"{queue.name} still paused")
                output.note(f"The spec of {queue.name} says `paused: true`; change it there.")
            else:
                click.echo(f"{queue.name} resumed")
