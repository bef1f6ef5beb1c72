"""``celeriac up``: the whole platform for the queues of a file, on this machine, until Ctrl-C."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import click

from celeriac.cli.broker import ENVIRONMENT
from celeriac.cli.errors import BadInput
from celeriac.cli.output import note
from celeriac.cli.state import METRICS_PORT

QUEUES = "queues.yaml"


@click.command(
    epilog="""\b
Examples:
  celeriac up -f queues.yaml
  celeriac up -f queues.yaml --broker redis://localhost:6379/0 --logs""",
)
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="FILE",
    help=f"MessageQueues as YAML; may be given again. Read again when it changes.  "
    f"[default: {QUEUES}]",
)
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the embedded broker keeps its data.  [default: .celeriac/data]",
)
@click.option("--broker", metavar="URL", help="Use this broker, and start none.")
@click.option(
    "--appendfsync",
    type=click.Choice(["everysec", "always"]),
    default="everysec",
    show_default=True,
    help="What a power cut may cost: the last second, or nothing at the price of speed.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help=f"Port on 127.0.0.1 for Prometheus; 0: any.  [default: {METRICS_PORT}, or any if taken]",
)
@click.option("--logs", is_flag=True, help="On a terminal: log lines in place of the table.")
def up(
    files: tuple[str, ...],
    data: Path | None,
    broker: str | None,
    appendfsync: Literal["everysec", "always"],
    metrics_port: int | None,
    logs: bool,
) -> None:
    """Run the queues of a file on this machine: broker, workers, metrics.

    Starts an embedded Valkey (unless --broker), workers as child processes as the queues need them, and
    one port with the metrics of all queues. Ctrl-C drains the workers and stops everything; what is left
    in the queues is kept, and the next start carries on with it.
    """
    if not files and not Path(QUEUES).exists():
        raise BadInput(
            f"no queues: there is no {QUEUES} in this folder",
            hint="Name a file: celeriac up -f FILE",
        )
    if not broker and os.environ.get(ENVIRONMENT):
        note(
            f"Note: {ENVIRONMENT} is set, so other commands will talk to that broker and not to the "
            "embedded one; unset it, or start with --broker."
        )
    from celeriac.cli.local_platform import LocalPlatform, Settings

    settings = Settings(
        files=files or (QUEUES,),
        data=data,
        broker=broker,
        appendfsync=appendfsync,
        metrics_port=metrics_port,
        logs=logs,
    )
    LocalPlatform(settings).run()
