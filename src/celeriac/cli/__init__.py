"""The command line: ``celeriac up | worker | send | get | explain | dlq | pause | resume | ...``.

One module holds each group of commands. Modules are imported when their command is asked for, and
import what is heavy inside the command, so that help and completion are instant.
"""

from __future__ import annotations

import importlib
import os
import signal
from typing import Any

import click

#: name -> (module, line of help); the help stands here so that listing commands imports none.
COMMANDS = {
    "up": ("up", "Run the queues of a file on this machine: broker, workers, metrics."),
    "worker": ("worker", "Run one worker of a Celery app on a queue."),
    "send": ("send", "Send one message, or a file of them."),
    "get": ("get", "List queues with their counts and workers."),
    "explain": ("explain", "Show why a queue has the number of workers it has."),
    "dlq": ("dlq", "Look at dead letters; redrive or purge them."),
    "cancel": ("waiting", "Keep waiting messages from running."),
    "purge": ("waiting", "Delete the messages that wait in a queue."),
    "delete": ("waiting", "Delete a queue, and all that it has on the broker."),
    "pause": ("control", "Stop handing out a queue's messages."),
    "resume": ("control", "Undo pause."),
    "doctor": ("doctor", "Check the broker, the queues and the workers."),
    "chaos": ("chaos", "Kill workers on a queue of their own, and account for every job."),
    "crd": ("crd", "Print the CustomResourceDefinition of MessageQueue."),
}

EXIT_CODES = "Exit codes: 0 fine, 1 failed, 2 bad input, 3 broker unreachable."


class Commands(click.Group):
    """A group that imports a command's module when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"celeriac.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from celeriac.cli.errors import unknown_name

            raise unknown_name("command", args[0], list(COMMANDS))
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"celeriac {version('celeriac')}")
        except PackageNotFoundError:
            click.echo("celeriac (not installed: running from its source)")
        ctx.exit()


@click.group(
    cls=Commands,
    epilog=EXIT_CODES,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        # Options of a worker in a pod: CELERIAC_WORKER_CONCURRENCY and so on.
        "auto_envvar_prefix": "CELERIAC",
    },
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
def cli() -> None:
    """Declare a queue; it runs, retries, dead-letters, scales and explains itself.

    \b
    Start here:
      celeriac up -f queues.yaml                 run queues and workers on this machine
      celeriac send message-delivery app.hello   send a message
      celeriac get                               see what became of it
    """


def main(args: list[str] | None = None, **extra: Any) -> None:
    """Run the command line and exit the process with its code."""
    if os.getpid() == 1:
        # The kernel keeps from a container's first process every signal that it has no handler for: a
        # pod that is deleted while its worker imports the app would go on until it is killed.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    cli.main(args=args, prog_name="celeriac", **extra)
