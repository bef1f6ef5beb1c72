"""``celeriac get``: every queue with its counts and workers, once or followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from celeriac.cli import output, queue_table
from celeriac.cli.broker import BrokerConnection, broker_option, connected
from celeriac.cli.errors import unknown_name
from celeriac.cli.state import StateFolder

Records = list[dict[str, Any]]


@click.command(
    epilog="""\b
Examples:
  celeriac get
  celeriac get message-delivery -o json
  celeriac get -w""",
)
@click.argument("queue", required=False)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["json", "yaml", "wide", "name"]),
    help="Another form than the table.",
)
@click.option("-w", "--watch", is_flag=True, help="Go on, and show what changes, until Ctrl-C.")
@broker_option
def get(queue: str | None, form: str | None, watch: bool, broker: str | None) -> None:
    """List queues with their counts and workers."""
    with connected(broker) as connection:
        if not watch:
            show(read(connection, queue), form)
            return
        try:
            follow(lambda: read(connection, queue), form)
        except KeyboardInterrupt:
            return


def read(broker: BrokerConnection, queue: str | None) -> Records:
    """Read one queue's record, or all of them, in one round trip."""
    from celeriac.broker.bulk_stats import stats_of

    names = broker.names()
    if queue is not None:
        if queue not in names:
            raise unknown_name("queue", queue, names)
        names = [queue]
    known = statuses(broker)
    stats = stats_of(broker.client, names, prefix=broker.prefix) if names else []
    return [queue_table.queue_record(one, known.get(one.name)) for one in stats]


def statuses(broker: BrokerConnection) -> dict[str, Any]:
    """What the `up` of this folder says of its queues, if it runs on the same broker."""
    folder = StateFolder()
    if folder.broker().get("url") != broker.choice.url:
        return {}
    queues = folder.status().get("queues", {})
    return queues if isinstance(queues, dict) else {}


def show(records: Records, form: str | None, *, compact: bool = False) -> None:
    """Print records in a form."""
    if form == "json":
        output.print_json(records, compact=compact)
    elif form == "yaml":
        output.print_yaml(records)
    elif form == "name":
        for record in records:
            click.echo(record["name"])
    elif not records:
        output.note("No queues yet. Declare some with: celeriac up -f queues.yaml")
    else:
        wide = form == "wide"
        rows = [queue_table.queue_row(record, wide=wide) for record in records]
        output.print_table(queue_table.WIDE if wide else queue_table.NARROW, rows)


def follow(measure: Callable[[], Records], form: str | None) -> None:
    """Show records each second: in place on a terminal, else again whenever they changed."""
    if form in (None, "wide") and output.on_terminal():
        with _screen(form == "wide") as update:
            while True:
                update(measure())
                time.sleep(1)
    before: Records | None = None
    while True:
        records = measure()
        if _counts(records) != _counts(before):
            if before is not None and form == "yaml":
                click.echo("---")
            show(records, form, compact=True)
            before = records
        time.sleep(1)


def _counts(records: Records | None) -> Any:
    """Everything but the age, which changes by itself."""
    if records is None:
        return None
    return [{k: v for k, v in record.items() if k != "oldestReadySeconds"} for record in records]


@contextmanager
def _screen(wide: bool) -> Iterator[Callable[[Records], None]]:
    from rich.live import Live

    columns = queue_table.WIDE if wide else queue_table.NARROW
    with Live(auto_refresh=False) as live:

        def update(records: Records) -> None:
            rows = [queue_table.queue_row(record, wide=wide) for record in records]
            live.update(output.rich_table(columns, rows), refresh=True)

        yield update
