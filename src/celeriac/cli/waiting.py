"""``celeriac cancel``, ``purge`` and ``delete``: what waits is not to run, or all of a queue goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celeriac.cli import output
from celeriac.cli.broker import broker_option, connected
from celeriac.cli.errors import Problem
from celeriac.cli.queue_table import live_workers

if TYPE_CHECKING:
    from celeriac.broker.message import QueueStats


@click.command(
    epilog="""\b
Example:
  celeriac cancel message-delivery 6f1c3a52-5f0e-4b55-9d8f-1c1b1f0a2a7e""",
)
@click.argument("queue")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@broker_option
def cancel(queue: str, ids: tuple[str, ...], broker: str | None) -> None:
    """Keep waiting messages of QUEUE from running.

    A delayed message is gone at once. A ready one is discarded when a worker would get it. One that runs
    already is not stopped: `celery -A APP control revoke --terminate ID` does that.
    """
    with connected(broker) as connection:
        found = connection.known_queue(queue)
        for message_id in ids:
            if found.cancel(message_id) == "cancelled":
                click.echo(f"{message_id} cancelled")
            else:
                click.echo(f"{message_id} will be discarded if it is ready in {queue}")


@click.command(
    epilog="""\b
Examples:
  celeriac purge message-delivery --dry-run
  celeriac purge message-delivery --delayed --yes""",
)
@click.argument("queue")
@click.option("--ready", "only_ready", is_flag=True, help="Only what is ready.")
@click.option("--delayed", "only_delayed", is_flag=True, help="Only what waits for its time.")
@click.option("--dry-run", is_flag=True, help="Say how many there are, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@broker_option
def purge(
    queue: str, only_ready: bool, only_delayed: bool, dry_run: bool, yes: bool, broker: str | None
) -> None:
    """Delete the messages that wait in QUEUE, ready and delayed.

    What runs goes on, and dead letters stay: see `celeriac dlq purge`.
    """
    ready, delayed = only_ready or not only_delayed, only_delayed or not only_ready
    with connected(broker) as connection:
        found = connection.known_queue(queue)
        stats = found.stats()
        count = (stats.ready if ready else 0) + (stats.delayed if delayed else 0)
        what = _what(stats, ready=ready, delayed=delayed)
        if dry_run:
            click.echo(f"would delete {count} messages from {queue}: {what}")
            return
        if count:
            output.confirm(f"Delete {count} messages from {queue} for good: {what}?", yes=yes)
        click.echo(f"{found.purge(ready=ready, delayed=delayed)} messages deleted from {queue}")


@click.command(
    epilog="""\b
Examples:
  celeriac delete old-queue --dry-run
  celeriac delete old-queue --yes""",
)
@click.argument("queue")
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@broker_option
def delete(queue: str, dry_run: bool, yes: bool, broker: str | None) -> None:
    """Delete QUEUE: its messages, its dead letters, its counts, and every key of it on the broker.

    Refused while a worker is there. A queue that is declared, by a file that `celeriac up` runs or by a
    MessageQueue, comes back: take it out there first.
    """
    with connected(broker) as connection:
        found = connection.known_queue(queue)
        stats = found.stats()
        if alive := live_workers(stats):
            raise Problem(
                f"{queue} has workers: {', '.join(sorted(alive))}",
                hint="Stop them first: take the queue out of the file of `celeriac up`, or delete its "
                "MessageQueue.",
            )
        what = f"{_what(stats, ready=True, delayed=True)}, {stats.dead} dead letters"
        if dry_run:
            click.echo(f"would delete {queue}: {what}, {stats.leased} on lease")
            return
        output.confirm(f"Delete {queue} for good: {what}?", yes=yes)
        found.delete()
        click.echo(f"{queue} deleted")
        if stats.leased:
            output.note(
                f"{stats.leased} messages were on lease to workers that nobody has heard of."
            )


def _what(stats: QueueStats, *, ready: bool, delayed: bool) -> str:
    parts = [f"{stats.ready} ready"] if ready else []
    return ", ".join([*parts, *([f"{stats.delayed} delayed"] if delayed else [])])
