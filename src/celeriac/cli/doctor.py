"""``celeriac doctor``: everything that can be wrong between here and the broker, in one look."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli import checks, output
from celeriac.cli.broker import BrokerConnection, broker_option, connected
from celeriac.cli.errors import FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from celeriac.broker.url import BrokerURL
    from celeriac.cli.checks import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(
    epilog="""\b
Example:
  celeriac doctor --broker celeriacs://worker:secret@redis.example.com:6380/0""",
)
@click.option("-o", "--output", "form", type=click.Choice(["json", "yaml"]))
@broker_option
def doctor(form: str | None, broker: str | None) -> None:
    """Check the broker, the queues and the workers.

    Every check is a line: ok, warn or fail, with what to do. Exits with 1 when one fails.
    """
    # Without a client name: setting one needs a permission, and that is what is checked here.
    with connected(broker, client_name=None) as connection:
        findings = examine(connection)
    if form == "json":
        output.print_json([asdict(finding) for finding in findings])
    elif form == "yaml":
        output.print_yaml([asdict(finding) for finding in findings])
    else:
        report(findings)
    if any(finding.level == "fail" for finding in findings):
        raise SystemExit(FAILED)


def examine(broker: BrokerConnection) -> list[Finding]:
    """Measure, and judge what was measured."""
    from redis.exceptions import NoPermissionError

    from celeriac.broker.bulk_stats import stats_of

    url = broker.url
    started = time.perf_counter()
    with suppress(NoPermissionError):  # an answer, too
        broker.client.ping()
    took_ms = (time.perf_counter() - started) * 1000
    text = f"{url.redacted()} (from {broker.choice.source}) answers in {took_ms:.1f} ms"
    findings = [checks.Finding("ok", "connection", text)]
    for address, client in broker.servers.items():
        found = examine_server(client, url)
        findings += [replace(it, check=f"{it.check} {address}".strip()) for it in found]
    wrong = {one.check.partition(" ")[0] for one in findings if one.level == "fail"}
    if not wrong & {"permissions", "server"}:  # or they could not be read
        stats = stats_of(broker.client, broker.names(), prefix=broker.prefix)
        findings += checks.check_queues(stats)
    return findings


def examine_server(client: redis.Redis, url: BrokerURL) -> Iterator[Finding]:
    """Judge one server."""
    from celeriac.cli.permissions import acl_rule, refused

    cluster, waits = url.kind == "cluster", url.replication is not None
    missing = refused(client, url.prefix, cluster=cluster, waits=waits)
    rule = acl_rule(url.prefix, cluster=cluster, waits=waits)
    yield checks.check_permissions(missing, rule)
    if not any(name.startswith("INFO") for name in missing):
        info: dict[str, Any] = client.info()
        yield checks.check_version(info, cluster=cluster)
        yield checks.check_persistence(info)
        yield checks.check_memory(info)
        if cluster:
            yield checks.check_replicas(info)
    if not missing:  # TIME may be among it
        yield checks.check_clock(_skew_ms(client))


def _skew_ms(client: redis.Redis) -> int:
    """How far the server's clock is ahead, taken at the middle of the round trip."""
    before = time.time()
    seconds, micros = client.time()
    middle = (before + time.time()) / 2
    return round((seconds + micros / 1e6 - middle) * 1000)


def report(findings: list[Finding]) -> None:
    """Print a line for each finding, and under it what to do."""
    colour = output.on_terminal() and not output.no_colour()
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        level = f"{finding.level:<4}"
        if colour:
            level = click.style(level, fg=COLOURS[finding.level], bold=finding.level == "fail")
        click.echo(f"{level}  {finding.check:<{width}}  {finding.text}")
        if finding.advice:
            click.echo(f"      {'':<{width}}  {finding.advice}")
    counts = {level: sum(one.level == level for one in findings) for level in COLOURS}
    click.echo(", ".join(f"{count} {level}" for level, count in counts.items() if count))
