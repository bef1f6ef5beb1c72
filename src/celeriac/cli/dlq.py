"""``celeriac dlq``: look at dead letters, send them back to their queue, or delete them.

Long lists go page by page, newest first. Redrive and purge move one page after the other and say
how many they moved; a run that was interrupted is simply run again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from celeriac.cli import output
from celeriac.cli.broker import broker_option, connected
from celeriac.cli.dead import Filter, json_of, print_letters, show_text
from celeriac.cli.durations import Duration
from celeriac.cli.errors import BadInput

if TYPE_CHECKING:
    from celeriac.broker.message import DeadMessage
    from celeriac.broker.queue import Queue

F = TypeVar("F", bound=Callable[..., object])

PAGE = 100
SAMPLE = 10


@click.group()
def dlq() -> None:
    """Look at dead letters; redrive or purge them."""


def filter_options(command: F) -> F:
    """Add the options that pick dead letters."""
    for option in (
        click.option("--since", type=Duration(), metavar="1h", help="Died within this time."),
        click.option("--task", metavar="NAME", help="Of this task; * stands for anything."),
        click.option("--error", metavar="CLASS", help="With this error class, e.g. SMTPException."),
        click.option("--reason", metavar="WORD", help="For this reason, e.g. delivery_limit."),
    ):
        command = option(command)
    return command


@dlq.command(
    "ls",
    epilog="""\b
Examples:
  celeriac dlq ls message-delivery
  celeriac dlq ls message-delivery --error SMTPException --since 1h -o json""",
)
@click.argument("queue")
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option(
    "--before", default="", metavar="ENTRY", help="The next page: entries older than this."
)
@click.option("-o", "--output", "form", type=click.Choice(["json", "yaml", "wide", "name"]))
@broker_option
def list_dead(
    queue: str,
    reason: str | None,
    error: str | None,
    task: str | None,
    since: timedelta | None,
    limit: int,
    before: str,
    form: str | None,
    broker: str | None,
) -> None:
    """List the dead letters of QUEUE, newest first."""
    with connected(broker) as connection:
        letters = pages(connection.known_queue(queue), Filter(reason, error, task, since), before)
        found = list(itertools.islice(letters, limit + 1))
        now_ms = server_ms(connection.client)
    more, found = len(found) > limit, found[:limit]
    if form == "json":
        output.print_json([json_of(letter) for letter in found])
    elif form == "yaml":
        output.print_yaml([json_of(letter) for letter in found])
    elif form == "name":
        for letter in found:
            click.echo(letter.id)
    elif not found:
        output.note(
            f"No dead letters in {queue}"
            + (" that match." if reason or error or task or since else ".")
        )
    else:
        print_letters(found, now_ms, wide=form == "wide")
    if more:
        output.note(f"There are more: --before {found[-1].entry}, or a higher --limit.")


@dlq.command(
    epilog="""\b
Example:
  celeriac dlq show message-delivery 5f1c... --payload""",
)
@click.argument("queue")
@click.argument("id_", metavar="ID")
@click.option("--payload", is_flag=True, help="Also the message's body, which may be private.")
@click.option("-o", "--output", "form", type=click.Choice(["json", "yaml"]))
@broker_option
def show(queue: str, id_: str, payload: bool, form: str | None, broker: str | None) -> None:
    """Show one dead letter of QUEUE with its whole history.

    ID is the message's id, or its entry among the dead letters.
    """
    with connected(broker) as connection:
        letter = connection.known_queue(queue).dead_letter(id_, whole=payload)
        now_ms = server_ms(connection.client)
    if letter is None:
        raise BadInput(
            f"{queue} has no dead letter {id_!r}", hint=f"List them with: celeriac dlq ls {queue}"
        )
    record = json_of(letter, history=True, payload=payload)
    if form == "json":
        output.print_json(record)
    elif form == "yaml":
        output.print_yaml(record)
    else:
        for line in show_text(letter, queue, now_ms, payload=payload):
            click.echo(line)


def moving_options(command: F) -> F:
    """Add what redrive and purge have in common."""
    for option in (
        broker_option,
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Only say what would be moved."),
        click.option(
            "--limit", type=click.IntRange(min=1), help="At most this many, newest first."
        ),
        filter_options,
        click.option("--all", "everything", is_flag=True, help="All of them."),
        click.argument("ids", metavar="[ID]...", nargs=-1),
        click.argument("queue"),
    ):
        command = option(command)
    return command


@dlq.command(
    epilog="""\b
Examples:
  celeriac dlq redrive message-delivery 5f1c...
  celeriac dlq redrive message-delivery --error ConnectionError --limit 10
  celeriac dlq redrive message-delivery --all --yes""",
)
@moving_options
def redrive(broker: str | None, **options: Any) -> None:
    """Send dead letters of QUEUE back to it, with a fresh count of attempts."""
    move(broker, Move("redrive", "redriven"), **options)


@dlq.command(
    epilog="""\b
Examples:
  celeriac dlq purge message-delivery --since 1h --reason undecodable --dry-run
  celeriac dlq purge message-delivery --all --yes""",
)
@moving_options
def purge(broker: str | None, **options: Any) -> None:
    """Delete dead letters of QUEUE for good."""
    move(broker, Move("purge", "purged"), **options)


@dataclass(frozen=True, slots=True)
class Move:
    """What is done with dead letters, and its past."""

    verb: str
    done: str

    def entries(self, queue: Queue, entries: list[str]) -> int:
        """Do it to entries; return how many were still there."""
        return queue.redrive(entries) if self.verb == "redrive" else queue.purge_dead(entries)


def move(
    broker: str | None,
    how: Move,
    *,
    queue: str,
    ids: tuple[str, ...],
    everything: bool,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    **filters: Any,
) -> None:
    """Redrive or purge what is picked: by id, by filter, or all."""
    picked = Filter(**filters)
    if sum((bool(ids), everything or picked.given)) != 1:
        raise BadInput(
            f"which dead letters of {queue}? Give their IDs, or --all, or filters",
            hint=f"For example: celeriac dlq {how.verb} {queue} --reason delivery_limit --dry-run",
        )
    with connected(broker) as connection:
        target = connection.known_queue(queue)
        missing = set(ids)
        letters = by_id(target, missing) if ids else pages(target, picked)
        chosen = itertools.islice(letters, limit)
        if dry_run:
            preview(target, chosen, how)
        else:
            if not ids or how.verb == "purge":
                many = f"{len(ids)}" if ids else f"up to {limit}" if limit else "all matching"
                output.confirm(f"{how.verb} {many} dead letters of {queue}?", yes=yes)
            carry_out(target, chosen, how, quiet=bool(ids))
    if missing:
        raise BadInput(
            f"{queue} has no dead letter {', '.join(sorted(missing))}",
            hint=f"List them with: celeriac dlq ls {queue}",
        )


def preview(queue: Queue, chosen: Iterator[DeadMessage], how: Move) -> None:
    """Say how many would be moved, and show the first of them."""
    sample = list(itertools.islice(chosen, SAMPLE))
    count = len(sample) + sum(1 for _ in chosen)
    if sample:
        print_letters(sample, server_ms(queue.client))
    shown = f", {len(sample)} shown" if count > len(sample) else ""
    click.echo(f"{count} of {queue.name} would be {how.done}{shown}")


def carry_out(queue: Queue, chosen: Iterator[DeadMessage], how: Move, *, quiet: bool) -> None:
    """Move page after page; say how many were moved even when interrupted."""
    moved = asked = 0
    try:
        while page := list(itertools.islice(chosen, PAGE)):
            asked += len(page)
            moved += how.entries(queue, [letter.entry for letter in page])
    except BaseException:
        output.note(f"Interrupted after {moved} {how.done}; run it again to carry on.")
        raise
    if quiet and not asked:
        return
    gone = f" ({asked - moved} were gone already)" if asked > moved else ""
    click.echo(f"{moved} {how.done}{gone}")


def pages(queue: Queue, picked: Filter, before: str = "") -> Iterator[DeadMessage]:
    """Go through matching dead letters, newest first; those that die meanwhile do not turn up."""
    now_ms = server_ms(queue.client)
    while True:
        page = queue.search_dead(**picked.texts(), before=before, count=PAGE)
        for letter in page.letters:
            if picked.too_old(letter.dead_ms, now_ms):
                return
            if picked.matches(letter):
                yield letter
        before = page.before
        if not before or picked.too_old(int(before.partition("-")[0]), now_ms):
            return


def by_id(queue: Queue, missing: set[str]) -> Iterator[DeadMessage]:
    """Find dead letters by message id or entry, and take those found out of ``missing``."""
    from celeriac.broker.message import is_entry

    for name in sorted(missing):
        letter = queue.dead_letter(name) if is_entry(name) else None
        if letter is not None:
            missing.discard(name)
            yield letter
    if all(is_entry(name) for name in missing):
        return
    for letter in pages(queue, Filter()):
        if letter.id in missing:
            missing.discard(letter.id)
            yield letter
            if not missing:
                return


def server_ms(client: Any) -> int:
    """The server's clock in milliseconds: ages must not depend on this machine's."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000
