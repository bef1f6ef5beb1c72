"""``celeriac explain``: the arithmetic behind a queue's number of workers, and what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli import output
from celeriac.cli.broker import BrokerConnection, broker_option, connected
from celeriac.cli.errors import BadInput, unknown_name
from celeriac.cli.get import statuses
from celeriac.cli.queue_table import count

if TYPE_CHECKING:
    from celeriac.spec.queue import MessageQueue


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
    with connected(broker) as connection:
        source, status = explanation(connection, queue, files)
    if form == "json":
        output.print_json({"name": queue, "source": source, **status})
    elif form == "yaml":
        output.print_yaml({"name": queue, "source": source, **status})
    else:
        for line in lines(queue, source, status):
            click.echo(line)


def explanation(
    broker: BrokerConnection, queue: str, files: tuple[str, ...]
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
            hint=f"Calculate with a file: celeriac explain {queue} -f queues.yaml. On Kubernetes the "
            "operator decides, and tells why in the resource: kubectl describe mq NAME",
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


def calculate(broker: BrokerConnection, queue: MessageQueue) -> dict[str, Any]:
    """What a control loop would decide that saw the queue for the first time just now."""
    from datetime import UTC, datetime

    from celeriac.backend.base import Fleet
    from celeriac.cli.queue_table import live_workers
    from celeriac.control.observe import Observation
    from celeriac.control.scale import ScaleMemory, decide
    from celeriac.control.status import scaling_status

    stats = broker.queue(queue.queue_name).stats()
    running = len(live_workers(stats))
    observation = Observation(
        now=datetime.now(UTC),
        seconds=0.0,
        fleet=Fleet(wanted=running, ready=running),
        stats=stats,
    )
    memory = ScaleMemory(((0.0, 0),))  # no past: what was wanted a moment ago is not known
    decision, _ = decide(queue.spec, observation, memory)
    return {
        "replicas": running,
        "desiredReplicas": decision.desired,
        "scaling": scaling_status(decision).model_dump(mode="json", by_alias=True),
        "conditions": [],
    }


def lines(queue: str, source: str, status: Mapping[str, Any]) -> Iterator[str]:
    """The arithmetic, line by line, and what else is known."""
    from celeriac.control.explain import explain as in_words
    from celeriac.control.status import decision_of
    from celeriac.spec.status import ScalingStatus

    running, desired = status["replicas"], status["desiredReplicas"]
    yield f"{queue}: {count(running, 'worker')}, {desired} desired"
    yield ""
    for line in in_words(decision_of(ScalingStatus.model_validate(status["scaling"]))):
        yield f"  {line}"
    yield from _conditions(status.get("conditions", []))
    if source == "calculated":
        yield ""
        yield "Calculated just now: no `celeriac up` runs in this folder."


def _conditions(conditions: list[Mapping[str, str]]) -> Iterator[str]:
    if not conditions:
        return
    yield ""
    width = max(len(condition["type"]) for condition in conditions)
    for condition in conditions:
        text = f": {condition['message']}" if condition.get("message") else ""
        yield f"{condition['type']:<{width}}  {condition['status']:<7}  {condition['reason']}{text}"
