"""The command line of a local worker."""

from __future__ import annotations

from typing import Any

from celeriac.backend.command import Command, worker_command
from celeriac.cli.worker import worker
from celeriac.spec.queue import MessageQueue

URL = "celeriac://:secret@localhost:6379"


def command(environment: dict[str, str] | None = None, **worker: Any) -> Command:
    queue = MessageQueue.model_validate(
        {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "MessageQueue",
            "metadata": {"name": "mail"},
            "spec": {"queue": "Mail.out", "worker": {"app": "mail.app:app", **worker}},
        }
    )
    return worker_command(queue, broker_url=URL, environment=environment or {})


def test_every_field_is_an_argument() -> None:
    found = command(
        pool="Threads",
        concurrency=10,
        softTimeoutSeconds=50,
        timeoutSeconds=60,
        drainSeconds=70,
        leaseSeconds=20,
    )

    assert found.arguments == (
        "-m",
        "celeriac.cli",
        "worker",
        "--app=mail.app:app",
        "--queue=Mail.out",
        "--pool=threads",
        "--concurrency=10",
        "--soft-timeout=50",
        "--timeout=60",
        "--drain=70",
        "--lease=20",
    )


def test_every_argument_is_an_option_of_the_command() -> None:
    known = {name for option in worker.params for name in option.opts}

    assert {argument.partition("=")[0] for argument in command().arguments[3:]} <= known


def test_the_password_is_not_on_the_command_line() -> None:
    found = command()

    assert "secret" not in " ".join(found.arguments)
    assert dict(found.environment)["CELERIAC_BROKER_URL"] == URL


def test_a_solo_worker_runs_one_at_a_time() -> None:
    assert "--concurrency=1" in command(pool="Solo", concurrency=10).arguments


def test_variables_of_the_cluster_must_be_set_here() -> None:
    env = [
        {"name": "PLAIN", "value": "1"},
        {"name": "EMPTY"},
        {"name": "SET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "UNSET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    found = command({"SET": "x"}, env=env)

    assert found.missing == ("UNSET",)
    assert dict(found.environment) == {"PLAIN": "1", "EMPTY": "", "CELERIAC_BROKER_URL": URL}


def test_the_revision_changes_with_what_runs_here_and_with_nothing_else() -> None:
    same = command(image="a", resources={"limits": {"cpu": 1}})

    assert same.revision == command().revision
    for change in (
        {"app": "other"},
        {"concurrency": 5},
        {"timeoutSeconds": 9},
        {"env": [{"name": "A", "value": "1"}]},
    ):
        assert command(**change).revision != command().revision
