"""``celeriac send``: one message from options, or a JSON Lines file of them."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any

import click

from celeriac.cli import jobs, output
from celeriac.cli.broker import BrokerConnection, broker_option, connected
from celeriac.cli.durations import Duration
from celeriac.cli.errors import BAD_INPUT, FAILED, BadInput, Problem, Unreachable

if TYPE_CHECKING:
    from celeriac import Client, Job

BATCH = 400  # one round trip of the client
PROBLEMS_SHOWN = 20


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic in new versions of click only


class Json(_ParamType):
    """A JSON value of one type."""

    name = "json"

    def __init__(self, kind: type, example: str) -> None:
        self.kind, self.example = kind, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the option's text."""
        if isinstance(value, self.kind):
            return value
        try:
            parsed = json.loads(value, parse_constant=jobs.no_constant)
        except ValueError as error:
            self.fail(f"not JSON: {error}; write for example '{self.example}'", param, ctx)
        if not isinstance(parsed, self.kind):
            self.fail(f"must look like '{self.example}'", param, ctx)
        return parsed


@click.command(
    epilog="""\b
Examples:
  celeriac send message-delivery app.greet --args '["Ada"]' --priority high
  celeriac send message-delivery app.greet --kwargs '{"name": "Ada"}' --delay 5s
  celeriac send message-delivery --file jobs.jsonl
  echo '{"task": "app.greet", "args": ["Ada"]}' | celeriac send message-delivery --file -""",
)
@click.argument("queue")
@click.argument("task", required=False)
@click.option("--args", "args_", type=Json(list, '["Ada"]'), metavar="JSON", help="A list.")
@click.option("--kwargs", type=Json(dict, '{"name": "Ada"}'), metavar="JSON", help="An object.")
@click.option("--priority", type=click.Choice(jobs.PRIORITIES), default="normal", show_default=True)
@click.option(
    "--delay", type=Duration(), default="0s", metavar="5s", help="Ready only after this time."
)
@click.option(
    "--expires", type=Duration(), metavar="1h", help="Discard it when nobody ran it by then."
)
@click.option("--dedup-key", metavar="KEY", help="Accept only one message with this key.")
@click.option("--id", "id_", metavar="ID", help="The task id; made up when left out.")
@click.option(
    "--file",
    "file",
    type=click.File("r", encoding="utf-8"),
    metavar="jobs.jsonl|-",
    help=f"One JSON object a line, with the keys {', '.join(jobs.KEYS)}. The options above hold "
    "for lines that leave a key out.",
)
@click.option(
    "--from-line",
    type=click.IntRange(min=1),
    default=1,
    help="Carry on with this line of the file.",
)
@click.option(
    "--undeclared",
    is_flag=True,
    help="Also to a queue that nobody has declared: it gets the default policy.",
)
@click.option(
    "-o", "--output", "form", type=click.Choice(["json", "name"]), help="Print receipts or ids."
)
@broker_option
def send(
    queue: str,
    task: str | None,
    args_: list[Any] | None,
    kwargs: dict[str, Any] | None,
    priority: jobs.Priority,
    delay: timedelta,
    expires: timedelta | None,
    dedup_key: str | None,
    id_: str | None,
    file: IO[str] | None,
    from_line: int,
    undeclared: bool,
    form: str | None,
    broker: str | None,
) -> None:
    """Send one message, or a file of them, to QUEUE.

    TASK is the task's name as its Celery app knows it, e.g. app.greet.
    """
    draft = jobs.Draft(
        task or "", tuple(args_ or ()), kwargs, id_, priority, delay, expires, dedup_key
    )
    if file is None and not task:
        raise BadInput(
            "what should run? Name a TASK, or give --file",
            hint="For example: celeriac send message-delivery app.greet --args '[\"Ada\"]'",
        )
    if file is not None and (id_ or dedup_key):
        raise BadInput(
            "--id and --dedup-key are for one message; in a file they are keys of a line"
        )
    if not queue or "{" in queue or "}" in queue:
        raise BadInput(f"{queue!r} is no name for a queue: leave out {{ and }}")
    with connected(broker) as connection:
        if not undeclared:
            connection.known_queue(queue)
        if file is None:
            send_one(connection, queue, draft, form)
        else:
            name = "standard input" if file.name == "<stdin>" else file.name
            Bulk(connection, queue, name, form).send(jobs.read_lines(file, draft, start=from_line))


def client_of(broker: BrokerConnection) -> Client:
    """Make a producer on the connection of the command."""
    from celeriac import Client

    return Client(broker.client, prefix=broker.prefix, replication=broker.url.replication)


def job_of(draft: jobs.Draft) -> Job:
    """Turn a draft into what the client sends."""
    from celeriac import Job

    return Job(
        task=draft.task,
        args=draft.args,
        kwargs=draft.kwargs or {},
        id=draft.id,
        priority=draft.priority,
        delay=draft.delay,
        expires=draft.expires,
        dedup_key=draft.dedup_key,
    )


def send_one(broker: BrokerConnection, queue: str, draft: jobs.Draft, form: str | None) -> None:
    """Send a draft and print its receipt."""
    from celeriac import BulkInterrupted, NotReplicated

    try:
        receipt = client_of(broker).send_many(queue, [job_of(draft)]).receipts[0]
    except BulkInterrupted as error:
        raise error.__cause__ or error from None
    if form == "json":
        output.print_json({"id": receipt.id, "status": receipt.status, "reason": receipt.reason})
    if receipt.status == "refused":
        raise Problem(f"{queue} refused the message: {receipt.reason}")
    if not receipt.replicated:
        raise Problem(f"{NotReplicated(queue, receipt)}", hint="It may be lost with the primary.")
    if form == "name":
        click.echo(receipt.id)
    elif form is None:
        word = "accepted" if receipt.status == "accepted" else "duplicate of"
        click.echo(f"{word} {receipt.id}")


@dataclass(slots=True)
class Bulk:
    """Sends a file in batches, and counts what became of each line."""

    broker: BrokerConnection
    queue: str
    file: str
    form: str | None
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    wrong: int = 0
    problems: list[str] = field(default_factory=list)
    unnamed: int = 0
    not_replicated: int = 0

    def send(self, lines: Iterator[jobs.Line]) -> None:
        """Send everything, print the counts, and exit with the code that fits them."""
        client = client_of(self.broker)
        try:
            with _progress() as advance:
                while batch := list(itertools.islice(lines, BATCH)):
                    self._send(client, batch)
                    advance(len(batch))
        except UnicodeDecodeError as error:
            self._report()
            raise BadInput(f"{self.file} is not UTF-8 text: {error}") from error
        self._report()
        if self.wrong:
            raise SystemExit(BAD_INPUT)
        if self.refused or self.not_replicated:
            raise SystemExit(FAILED)

    def _send(self, client: Client, batch: list[jobs.Line]) -> None:
        from celeriac import BulkInterrupted

        good = [line for line in batch if line.draft is not None]
        for line in batch:
            if line.draft is None:
                self.wrong += 1
                self._problem(line.number, line.problem)
        try:
            sent = client.send_many(self.queue, [job_of(line.draft) for line in good if line.draft])
        except BulkInterrupted as error:
            self._count(good, error.receipt.receipts)
            self._report()
            first = good[len(error.receipt.receipts)].number
            if not error.uncertain:
                raise Problem(
                    f"{error.__cause__}",
                    hint=f"Lines before {first} are done. Carry on with --from-line {first}.",
                ) from error
            last = good[len(error.receipt.receipts) + len(error.uncertain) - 1].number
            raise Unreachable(
                f"the broker was lost while lines {first} to {last} were on their way",
                hint=f"Lines before {first} are done. Those from {first} to {last} were accepted "
                "all together or not at all: see `celeriac get`.\n"
                f"Carry on with --from-line {first} or {last + 1}.",
            ) from error
        self._count(good, sent.receipts)

    def _count(self, lines: list[jobs.Line], receipts: Any) -> None:
        for line, receipt in zip(lines, receipts, strict=False):
            self.not_replicated += receipt.status != "refused" and not receipt.replicated
            if receipt.status == "accepted":
                self.accepted += 1
            elif receipt.status == "duplicate":
                self.duplicates += 1
            else:
                self.refused += 1
                self._problem(line.number, f"refused: {receipt.reason}")
            if self.form == "json":
                record = {"line": line.number, "id": receipt.id, "status": receipt.status}
                output.print_json({**record, "reason": receipt.reason}, compact=True)
            elif self.form == "name" and receipt.status != "refused":
                click.echo(receipt.id)

    def _problem(self, number: int, problem: str) -> None:
        if len(self.problems) < PROBLEMS_SHOWN:
            self.problems.append(f"{self.file}, line {number}: {problem}")
        else:
            self.unnamed += 1

    def _report(self) -> None:
        for problem in self.problems:
            output.note(problem)
        if self.unnamed:
            output.note(f"... and {self.unnamed} more")
        counts = f"accepted {self.accepted}, duplicates {self.duplicates}, "
        counts += f"refused {self.refused + self.wrong}"
        if self.not_replicated:
            counts += f", too few replicas have {self.not_replicated}"
        click.echo(counts, err=self.form is not None)


@contextmanager
def _progress() -> Iterator[Any]:
    """A count of lines on the terminal; nothing off it."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), "sending", MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda count: progress.advance(task, count)
