"""``celeriac worker``: one worker process of a Celery app."""

from __future__ import annotations

import sys
import time

import click

from celeriac.cli.apps import load_app
from celeriac.cli.broker import broker_option, choose
from celeriac.cli.errors import BadInput, Problem
from celeriac.spec.pools import POOLS


@click.command(
    epilog="""\b
Example:
  celeriac worker -A app:app -Q message-delivery --pool threads --concurrency 10""",
)
@click.option(
    "-A",
    "--app",
    "app_name",
    envvar="CELERIAC_WORKER_APP",
    required=True,
    metavar="MODULE:APP",
    help="The Celery app.",
)
@click.option("-Q", "--queue", required=True, help="The queue to consume.")
@click.option(
    "--pool",
    type=click.Choice(list(POOLS), case_sensitive=False),
    default="prefork",
    show_default=True,
    help="solo: one at a time; prefork: processes (for CPU, keeps time limits); threads: for I/O; "
    "asyncio: async def tasks, hundreds at once.",
)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option(
    "--name",
    default="",
    help="The worker's name on the broker; unique. After a colon at its end comes the start time.",
)
@click.option(
    "--soft-timeout", type=click.FloatRange(min=0), default=0, metavar="SECONDS", help="0: none."
)
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=0, metavar="SECONDS", help="0: none."
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="After SIGTERM, time to finish what runs; the rest is handed back.",
)
@click.option(
    "--lease",
    type=click.IntRange(2, 3600),
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="After a crash, messages are ready again within this time.",
)
@click.option("--http-port", type=click.IntRange(0, 65535), help="Serve /livez, /readyz, /metrics.")
@click.option("--http-host", default="127.0.0.1", show_default=True)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
)
@broker_option
def worker(
    app_name: str,
    queue: str,
    pool: str,
    concurrency: int,
    name: str,
    soft_timeout: float,
    timeout: float,
    drain: float,
    lease: int,
    http_port: int | None,
    http_host: str,
    log_level: str,
    broker: str | None,
) -> None:
    """Run one worker of a Celery app on a queue.

    SIGTERM or Ctrl-C drains it: it claims nothing more, finishes what runs, and hands the rest
    back. A second one makes it stop at once.
    """
    if name.endswith(":"):
        # Told apart from a worker that had this name before, and may have died with messages in hand.
        name = f"{name}{int(time.time())}"
    choice = choose(broker)
    app = load_app(app_name)

    from celeriac.broker.connection import BrokerURLError
    from celeriac.broker.eviction import HOW_TO_STOP_IT, EvictingServer
    from celeriac.worker import WorkerOptions, run_worker

    options = WorkerOptions(
        queue=queue,
        pool=pool.lower(),
        concurrency=concurrency,
        name=name,
        broker=choice.url,
        soft_timeout_s=soft_timeout,
        timeout_s=timeout,
        drain_s=drain,
        lease_s=lease,
        http_port=http_port,
        http_host=http_host,
        log_level=log_level.upper(),
    )
    try:
        code = run_worker(app, options)
    except BrokerURLError as error:
        raise BadInput(f"{choice.source}: {error}") from error
    except EvictingServer as error:
        raise Problem(str(error), hint=HOW_TO_STOP_IT) from error
    except ValueError as error:
        raise BadInput(str(error)) from error
    sys.exit(code)
