"""``celeriac explain``: the arithmetic behind a queue's number of workers, and what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli import output
from celeriac.cli.broker import Broker, broker_option, connected
from celeriac.cli.durations import ago
from celeriac.cli.errors import BadInput, unknown_name
from celeriac.cli.get import statuses

if TYPE_CHECKING:
    from celeriac.spec.queue import MessageQueue

#: What each limit means, and what to do about it.
LIMITS = {
    "Depth": "nothing: it is just what the messages need",
    "MinReplicas": "autoscaling.minReplicas: fewer would do",
    "MaxReplicas": "autoscaling.maxReplicas: raise it if messages wait too long",
    "Replicas": "a fixed number of workers (autoscaling.mode is not Native)",
    "Stabilisation": "autoscaling.scaleDownDelaySeconds: fewer would do, but not yet",
    "Paused": "the pause: no messages are handed out (`celeriac resume` ends it)",
    "BrokerUnreachable": "the broker, which does not answer: nothing is changed until it does",
}


@click.command(
    epilog="""\b
Examples:
  celeriac explain message-delivery
  celeriac explain message-delivery -f queues.yaml -o json""",
)
@click.argument("queue")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="Without a running `celeriac up`: calculate with the specs of this file.",
)
@click.option("-o", "--output", "form", type=click.Choice(["json", "yaml"]))
@broker_option
def explain(queue: str, files: tuple[str, ...], form: str | None, broker: str | None) -> None:
    """Show why a queue has the number of workers it has, and what limits it.

    The numbers are those of the `celeriac up` of this folder. Where none runs, they are calculated
    from the broker's counts and the specs of -f.
    """
    with connected(broker) as session:
        source, status = explanation(session, queue, files)
    if form == "json":
        output.print_json({"name": queue, "source": source, **status})
    elif form == "yaml":
        output.print_yaml({"name": queue, "source": source, **status})
    else:
        for line in lines(queue, source, status):
            click.echo(line)


def explanation(
    broker: Broker, queue: str, files: tuple[str, ...]
) -> tuple[str, Mapping[str, Any]]:
    """Where the numbers come from, and the queue's status with its scaling terms."""
    known = statuses(broker)
    if queue in known and not files:
        return "up", known[queue]
    names = broker.names()
    if queue not in names:
        raise unknown_name("queue", queue, names)
    if not files:
        raise BadInput(
            f"no `celeriac up` runs in this folder, so nobody decides about the workers of {queue}",
            hint=f"Calculate with a file: celeriac explain {queue} -f queues.yaml",
        )
    return "calculated", calculate(broker, _spec(queue, files))


def _spec(queue: str, files: tuple[str, ...]) -> MessageQueue:
    from celeriac.spec.load import SpecError, load_queues

    try:
        found = {one.queue_name: one for file in files for one in load_queues(file)}
    except SpecError as error:
        raise BadInput(str(error)) from error
    if queue not in found:
        raise unknown_name("queue", queue, list(found))
    return found[queue]


def lines(queue: str, source: str, status: Mapping[str, Any]) -> Iterator[str]:
    """The arithmetic, line by line."""
    term = status["scaling"]
    now, wanted = term["current"], term["desired"]
    yield f"{queue}: {now} {_workers(now)}" + ("" if now == wanted else f", {wanted} wanted")
    yield ""
    work = term["ready"] + term["leased"] + term["due"]
    for sign, label, value in (
        (" ", "ready messages", term["ready"]),
        ("+", "leased by workers", term["leased"]),
        ("+", "delayed, but due", term["due"]),
        ("=", "to do", work),
        ("/", "slots of a worker", term["slots"]),
        ("=", "workers needed", term["needed"]),
    ):
        yield f"  {sign} {label:<24}{value:>9}"
    yield f"    {'allowed':<24}{term['minReplicas']} to {term['maxReplicas']}"
    yield f"  = {'workers wanted':<24}{wanted:>9}"
    yield ""
    yield f"Limited by {LIMITS.get(term['limitedBy'], term['limitedBy'])}."
    if term["holdSeconds"]:
        yield f"Fewer workers in {ago(term['holdSeconds'])}, if there is no more to do by then."
    wait = f"The oldest ready message has waited {ago(term['oldestReadySeconds'])}"
    yield f"{wait}; at most {ago(term['startWaitSeconds'])} are wanted."
    if source == "calculated":
        yield "Calculated from the broker's counts: no `celeriac up` runs in this folder."
    yield from _conditions(status.get("conditions", []))


def _conditions(conditions: list[Mapping[str, str]]) -> Iterator[str]:
    if not conditions:
        return
    yield ""
    width = max(len(condition["type"]) for condition in conditions)
    for condition in conditions:
        text = f": {condition['message']}" if condition.get("message") else ""
        yield f"{condition['type']:<{width}}  {condition['status']:<7}  {condition['reason']}{text}"


def _workers(count: int) -> str:
    return "worker" if count == 1 else "workers"
