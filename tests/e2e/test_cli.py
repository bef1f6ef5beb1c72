"""The command line as it is used: real processes, a real server, what is printed, exit codes."""

from __future__ import annotations

import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.message import DeadLetter, Failure, NewMessage, Settlement
from celeriac.broker.queue import Queue
from celeriac.chaos.processes import eventually
from celeriac.cli.permissions import acl_rule
from celeriac.client.progress import QueueProgress
from celeriac.spec.policies import QueuePolicy

Run = Callable[..., subprocess.CompletedProcess[str]]

KEYS = [
    "name", "accepted", "done", "discarded", "purged", "retried", "redelivered", "dead", "ready",
    "leased", "delayed", "oldestReadySeconds", "replicas", "desiredReplicas", "paused",
    "conditions",
]  # fmt: skip
COMMANDS = (
    "up", "worker", "send", "get", "explain", "dlq", "cancel", "purge", "delete", "pause", "resume",
    "doctor", "chaos", "crd",
)  # fmt: skip


@pytest.fixture
def run(valkey: Any, tmp_path: Path) -> Run:
    """Run a command in an empty folder, on a prefix of its own."""

    def run(*words: str, stdin: str = "", broker: str | None = None) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "celeriac.cli", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=tmp_path,
            env=environment(broker if broker is not None else url_of(valkey, tmp_path)),
        )

    return run


def url_of(valkey: Any, folder: Path) -> str:
    return f"{valkey.url}?prefix={folder.name}"


def environment(broker: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "CELERIAC_BROKER_URL"}
    return {**kept, **({"CELERIAC_BROKER_URL": broker} if broker else {})}


@pytest.fixture
def queue(redis_client: redis.Redis, tmp_path: Path) -> Queue:
    """A declared queue, on the prefix that `run` uses."""
    queue = Queue(redis_client, "mail", prefix=tmp_path.name)
    queue.declare(QueuePolicy())
    return queue


def kill_messages(queue: Queue, count: int, *, error: str = "SMTPException") -> list[str]:
    """Make messages die of an error; return their ids, oldest first."""
    ids = [f"{error.lower()}-{n}" for n in range(count)]
    body = b'[["secret@example.org"],{},{}]'
    queue.publish([NewMessage(id=id_, task="app.mail", body=body) for id_ in ids])
    for message in queue.claim("w", count=count).messages:
        failure = Failure(reason="error", error=error, message="refused", worker="w", ended_ms=1)
        outcome = DeadLetter(reason="attempts_exhausted", failure=failure)
        assert queue.settle([Settlement(message, outcome, 5)]) == [True]
    return ids


def test_help_is_instant_and_every_command_shows_an_example(run: Run) -> None:
    # Time of the processor, for the tests may share it with others.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run("--help", broker="")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.15
    listed = run("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in listed
    for words in (
        *(["up"], ["worker"], ["send"], ["get"], ["explain"], ["pause"], ["resume"], ["doctor"]),
        *(["crd"], ["dlq", "ls"], ["dlq", "show"], ["dlq", "redrive"], ["dlq", "purge"]),
    ):
        shown = run(*words, "--help")
        assert shown.returncode == 0
        assert f"  celeriac {' '.join(words)}" in shown.stdout, words
        assert "Example" in shown.stdout


def test_send_and_get(run: Run, queue: Queue) -> None:
    sent = run("send", "mail", "app.greet", "--args", '["Ada"]', "--priority", "high")
    assert (sent.returncode, sent.stderr) == (0, "")
    word, id_ = sent.stdout.split()
    assert word == "accepted"
    run("send", "mail", "app.greet", "--delay", "1h")
    listed = json.loads(run("get", "-o", "json").stdout)
    assert [list(record) for record in listed] == [KEYS]
    assert listed[0] | {"oldestReadySeconds": 0} == {
        "name": "mail", "accepted": 2, "done": 0, "discarded": 0, "purged": 0, "retried": 0,
        "redelivered": 0, "dead": 0, "ready": 1, "leased": 0, "delayed": 1, "oldestReadySeconds": 0,
        "replicas": 0, "desiredReplicas": None, "paused": False, "conditions": [],
    }  # fmt: skip
    (message,) = queue.claim("w", count=2).messages
    assert (message.id, message.task, message.priority) == (id_, "app.greet", "high")
    assert json.loads(message.body)[:2] == [["Ada"], {}]


def test_every_form_of_get(run: Run, queue: Queue) -> None:
    assert run("get", "-o", "name").stdout == "mail\n"
    assert yaml.safe_load(run("get", "mail", "-o", "yaml").stdout)[0]["name"] == "mail"
    table = run("get").stdout
    assert table.splitlines()[0].split()[:3] == ["NAME", "READY", "LEASED"]
    assert "\x1b" not in table
    assert "REDELIVERED" in run("get", "-o", "wide").stdout


def test_watch_in_a_pipe_prints_a_line_for_each_change(
    valkey: Any, queue: Queue, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "celeriac.cli", "get", "-w", "-o", "json"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(url_of(valkey, tmp_path)),
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())[0]["accepted"] == 0
        queue.publish([NewMessage(id="a", task="t", body=b"[]")])
        assert json.loads(process.stdout.readline())[0]["accepted"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0


def test_send_a_file_counts_exactly_and_names_lines(run: Run, queue: Queue, tmp_path: Path) -> None:
    lines = [
        '{"task": "app.mail", "args": ["Grüße 🌱"]}',
        "",
        '{"task": "app.mail", "priority": "urgent"}',
        '{"args": [1]}',
        '{"task": "app.mail", "dedupKey": "once"}',
        '{"task": "app.mail", "dedupKey": "once"}',
        json.dumps({"task": "app.mail", "args": ["x" * 1_100_000]}),
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sent = run("send", "mail", "--file", "jobs.jsonl")
    assert sent.returncode == 2
    assert sent.stdout == "accepted 2, duplicates 1, refused 3\n"
    assert "jobs.jsonl, line 3: key 'priority'" in sent.stderr
    assert "jobs.jsonl, line 4: no task" in sent.stderr
    assert "jobs.jsonl, line 7: refused: " in sent.stderr
    assert queue.stats().accepted == 2


def test_send_from_standard_input_with_defaults_and_receipts(run: Run, queue: Queue) -> None:
    lines = "\n".join(json.dumps({"args": [n], "id": f"n-{n}"}) for n in range(1000))
    sent = run("send", "mail", "app.count", "--file", "-", "-o", "json", stdin=lines)
    assert sent.returncode == 0
    assert sent.stderr == "accepted 1000, duplicates 0, refused 0\n"
    receipts = [json.loads(line) for line in sent.stdout.splitlines()]
    assert [receipt["id"] for receipt in receipts] == [f"n-{n}" for n in range(1000)]
    rest = run("send", "mail", "app.count", "--file", "-", "--from-line", "999", stdin=lines)
    assert rest.stdout == "accepted 2, duplicates 0, refused 0\n"


def test_a_refused_message_fails(run: Run, queue: Queue) -> None:
    queue.declare(QueuePolicy.model_validate({"limits": {"maxMessages": 1}}))
    assert run("send", "mail", "t").returncode == 0
    refused = run("send", "mail", "t")
    assert refused.returncode == 1
    assert "maxMessages" in refused.stderr
    assert run("send", "mail", "--file", "-", stdin='{"task": "t"}').returncode == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["send", "mial", "t"], "Did you mean 'mail'?"),
        (["send", "mail"], "Name a TASK"),
        (["send", "mail", "t", "--args", "Ada"], "not JSON"),
        (["send", "mail", "t", "--args", "[NaN]"], "NaN is not JSON"),
        (["send", "mail", "t", "--kwargs", "[]"], "must look like"),
        (["send", "mail", "t", "--delay", "soon"], "not a duration"),
        (["send", "mail", "t", "--priority", "urgent"], "'high', 'normal', 'low'"),
        (["send", "mail", "--file", "missing.jsonl"], "missing.jsonl"),
        (["get", "mial"], "Did you mean 'mail'?"),
        (["gett"], "Did you mean 'get'?"),
        (["get", "--broker", "amqp://x"], "celeriac://"),
        (["dlq", "ls", "mial"], "Did you mean 'mail'?"),
        (["dlq", "show", "mail", "nothing"], "no dead letter 'nothing'"),
        (["dlq", "redrive", "mail"], "--all"),
        (["dlq", "redrive", "mail", "x", "--all"], "Give their IDs, or --all"),
        (["dlq", "redrive", "mail", "--all"], "--yes"),
        (["dlq", "purge", "mail", "x"], "--yes"),
        (["dlq", "purge", "mail", "x", "--yes"], "no dead letter x"),
        (["pause", "mial"], "Did you mean 'mail'?"),
        (["worker", "-A", "nowhere:app", "-Q", "mail"], "no module 'nowhere'"),
    ],
)
def test_bad_input_exits_with_2_and_says_what_to_do(
    run: Run, queue: Queue, words: list[str], said: str
) -> None:
    result = run(*words)
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [["get"], ["send", "mail", "t"], ["dlq", "ls", "mail"], ["doctor"], ["explain", "mail"]],
)
def test_an_unreachable_broker_exits_with_3(run: Run, words: list[str]) -> None:
    for broker, said in (
        ("celeriac://:hush@127.0.0.1:1/0", "does not answer"),
        ("", "celeriac up -f queues.yaml"),
    ):
        result = run(*words, broker=broker)
        assert result.returncode == 3
        assert said in result.stderr
        assert "hush" not in result.stderr
        assert "Traceback" not in result.stderr


def test_a_wrong_password_exits_with_3(run: Run, valkey: Any) -> None:
    result = run("get", broker=f"celeriac://:wrong@127.0.0.1:{valkey.port}/0")
    assert result.returncode == 3
    assert "refused the login" in result.stderr


def test_dead_letters_are_listed_filtered_and_paged(run: Run, queue: Queue) -> None:
    mail = kill_messages(queue, 3)
    disk = kill_messages(queue, 2, error="DiskFull")
    listed = json.loads(run("dlq", "ls", "mail", "-o", "json").stdout)
    assert [letter["id"] for letter in listed] == [*reversed(disk), *reversed(mail)]
    assert listed[0]["reason"] == "attempts_exhausted"
    assert "secret" not in json.dumps(listed)
    names = run("dlq", "ls", "mail", "--error", "DiskFull", "-o", "name").stdout.split()
    assert names == [*reversed(disk)]
    assert run("dlq", "ls", "mail", "--task", "other", "-o", "name").stdout == ""
    assert len(run("dlq", "ls", "mail", "--since", "1h", "-o", "name").stdout.split()) == 5
    page = run("dlq", "ls", "mail", "--limit", "2", "-o", "name")
    assert f"--before {listed[1]['entry']}" in page.stderr
    rest = run("dlq", "ls", "mail", "--before", listed[1]["entry"], "-o", "name")
    assert page.stdout.split() + rest.stdout.split() == [letter["id"] for letter in listed]
    table = run("dlq", "ls", "mail").stdout
    assert "attempts_exhausted" in table
    assert "\x1b" not in table


def test_show_tells_the_whole_history_and_the_payload_only_when_asked(
    run: Run, queue: Queue
) -> None:
    (id_,) = kill_messages(queue, 1)
    shown = run("dlq", "show", "mail", id_).stdout
    assert "SMTPException: refused" in shown
    assert "worker w" in shown
    assert "secret" not in shown
    assert "secret@example.org" in run("dlq", "show", "mail", id_, "--payload").stdout
    record = json.loads(run("dlq", "show", "mail", id_, "-o", "json").stdout)
    assert record["history"][0]["error"] == "SMTPException"
    assert record == json.loads(run("dlq", "show", "mail", record["entry"], "-o", "json").stdout)


def test_redrive_and_purge(run: Run, queue: Queue) -> None:
    mail = kill_messages(queue, 5)
    disk = kill_messages(queue, 250, error="DiskFull")
    dry = run("dlq", "redrive", "mail", "--error", "DiskFull", "--dry-run")
    assert "250 of mail would be redriven, 10 shown" in dry.stdout
    assert queue.stats().dead == 255
    assert run("dlq", "redrive", "mail", disk[0], disk[1]).stdout == "2 redriven\n"
    few = run("dlq", "redrive", "mail", "--error", "DiskFull", "--limit", "8", "--yes")
    assert few.stdout == "8 redriven\n"
    rest = run("dlq", "redrive", "mail", "--error", "DiskFull", "--yes")
    assert rest.stdout == "240 redriven\n"
    assert (queue.stats().ready, queue.stats().dead) == (250, 5)
    assert run("dlq", "purge", "mail", mail[0], "--yes").stdout == "1 purged\n"
    assert run("dlq", "purge", "mail", "--all", "--yes").stdout == "4 purged\n"
    stats = queue.stats()
    assert (stats.dead, stats.purged, stats.redriven, stats.imbalance) == (0, 5, 250, 0)


def test_pause_and_resume(run: Run, queue: Queue) -> None:
    queue.publish([NewMessage(id="a", task="t", body=b"[]")])
    assert run("pause", "mail").stdout == "mail paused\n"
    assert json.loads(run("get", "-o", "json").stdout)[0]["paused"] is True
    assert queue.claim("w", count=1).messages == []
    assert run("resume", "mail").stdout == "mail resumed\n"
    assert len(queue.claim("w", count=1).messages) == 1
    queue.declare(QueuePolicy(paused=True))
    resumed = run("resume", "mail")
    assert (resumed.returncode, resumed.stdout) == (0, "mail still paused\n")
    assert "paused: true" in resumed.stderr


def test_cancel(run: Run, queue: Queue) -> None:
    queue.publish([NewMessage(id="now", task="t", body=b"[]")])
    queue.publish([NewMessage(id="later", task="t", body=b"[]", delay_ms=60_000)])
    cancelled = run("cancel", "mail", "now", "later")
    assert cancelled.returncode == 0
    assert cancelled.stdout.splitlines() == [
        "now will be discarded if it is ready in mail",
        "later cancelled",
    ]
    assert queue.claim("w", count=5).messages == []
    assert queue.stats().discarded == 2


def test_purge_deletes_what_waits_and_nothing_else(run: Run, queue: Queue) -> None:
    queue.publish([NewMessage(id=f"m{n}", task="t", body=b"[]") for n in range(4)])
    queue.publish([NewMessage(id="later", task="t", body=b"[]", delay_ms=60_000)])
    queue.claim("w", count=1)
    dry = run("purge", "mail", "--dry-run")
    assert dry.stdout == "would delete 4 messages from mail: 3 ready, 1 delayed\n"
    unsure = run("purge", "mail")
    assert (unsure.returncode, queue.stats().ready) == (2, 3)
    assert "--yes" in unsure.stderr
    assert run("purge", "mail", "--delayed", "--yes").stdout == "1 messages deleted from mail\n"
    assert run("purge", "mail", "--yes").stdout == "3 messages deleted from mail\n"
    stats = queue.stats()
    assert (stats.leased, stats.purged, stats.imbalance) == (1, 4, 0)


def test_delete_leaves_nothing_of_a_queue(run: Run, queue: Queue) -> None:
    queue.publish([NewMessage(id="a", task="t", body=b"[]", dedup_key="k", dedup_ttl_ms=60_000)])
    queue.publish([NewMessage(id="b", task="t", body=b"[]")])
    QueueProgress(queue, "b").report(1, 2, "half")
    other = Queue(queue.client, "mail2", prefix=queue.prefix)
    other.declare(QueuePolicy())
    queue.claim("w", count=1)
    with_workers = run("delete", "mail", "--yes")
    assert with_workers.returncode == 1
    assert "mail has workers: w" in with_workers.stderr
    queue.abandon("w")
    assert "would delete mail: 2 ready, 0 delayed, 0 dead letters" in (
        run("delete", "mail", "--dry-run").stdout
    )
    assert run("delete", "mail", "--yes").stdout == "mail deleted\n"
    assert list(queue.client.scan_iter(match=f"{queue.prefix}:{{mail}}:*")) == []
    assert [it["name"] for it in json.loads(run("get", "-o", "json").stdout)] == ["mail2"]
    again = run("delete", "mail", "--yes")
    assert (again.returncode, "mail2" in again.stderr) == (2, True)


def test_a_worker_serves_one_queue_and_a_name_is_a_name(run: Run, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("from celery import Celery\napp = Celery('hello')\n")
    two = run("worker", "-A", "hello:app", "-Q", "low,high")
    assert two.returncode == 2
    assert "a worker serves one queue: start one for low and high" in two.stderr
    odd = run("worker", "-A", "hello:app", "-Q", "my queue")
    assert odd.returncode == 2
    assert "must be letters, digits, dots, underscores and hyphens" in odd.stderr
    assert run("get", "-o", "json").stdout.strip() == "[]"


def test_doctor_on_a_healthy_broker(run: Run, queue: Queue) -> None:
    result = run("doctor")
    assert result.returncode == 0
    checks = [line.split()[:2] for line in result.stdout.splitlines()]
    for check in ("connection", "permissions", "server", "persistence", "memory", "clock", "queue"):
        assert ["ok", check] in checks
    assert "***" in result.stdout


def test_doctor_names_the_permission_that_is_missing(
    run: Run, queue: Queue, redis_client: redis.Redis, valkey: Any, tmp_path: Path
) -> None:
    admin: Any = redis_client  # redis-py does not type this

    def result_for(*rules: str) -> subprocess.CompletedProcess[str]:
        admin.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pw", *rules)
        url = f"celeriac://limited:pw@127.0.0.1:{valkey.port}/0?prefix={tmp_path.name}"
        return run("doctor", broker=url)

    rules = acl_rule(tmp_path.name).split()
    whole = result_for(*rules)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    less = result_for(*(rule for rule in rules if rule not in ("+xclaim", "+client|setname")))
    assert less.returncode == 1
    assert "may not: XCLAIM, CLIENT SETNAME" in less.stdout
    foreign = result_for("~other:*", "&other:*", "+@all")
    assert f"keys {tmp_path.name}:*, channels {tmp_path.name}:*" in foreign.stdout
    admin.execute_command("ACL", "DELUSER", "limited")


def test_doctor_fails_when_messages_are_unaccounted_for(
    run: Run, queue: Queue, redis_client: redis.Redis
) -> None:
    queue.publish([NewMessage(id="a", task="t", body=b"[]")])
    redis_client.delete(queue.keys.base + "normal")
    result = run("doctor")
    assert result.returncode == 1
    assert "fail  queue mail" in result.stdout
    assert "1 message missing" in result.stdout
    assert json.loads(run("doctor", "-o", "json").stdout)[-1]["level"] in ("fail", "warn")


def test_a_server_that_must_not_be_used_like_this(tmp_path: Path, run: Run) -> None:
    with EmbeddedServer(tmp_path / "server") as server:
        client = connect(server.url)
        Queue(client, "mail").declare(QueuePolicy())
        for name, value in (
            ("appendonly", "no"),
            ("maxmemory", "1"),
            ("maxmemory-policy", "noeviction"),
        ):
            client.config_set(name, value)
        result = run("doctor", broker=server.url)
        assert result.returncode == 1
        assert "warn  persistence" in result.stdout
        assert "fail  memory" in result.stdout
        refused = run("send", "mail", "t", broker=server.url)
        assert refused.returncode == 1
        assert "maxmemory" in refused.stderr
        assert "Traceback" not in refused.stderr
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert "a full server deletes messages" in run("doctor", broker=server.url).stdout
        client.close()


def test_nothing_starts_on_a_server_that_deletes_messages(tmp_path: Path, run: Run) -> None:
    (tmp_path / "queues.yaml").write_text(
        "apiVersion: celeriac.dev/v1alpha1\nkind: MessageQueue\nmetadata: {name: mail}\n"
        "spec: {worker: {app: celery}}\n"
    )
    up = ["up", "-f", "queues.yaml", "--metrics-port", "0"]
    worker = ["worker", "-A", "app", "-Q", "mail", "--pool", "solo"]
    with EmbeddedServer(tmp_path / "server") as server:
        client = connect(server.url)
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "100mb")
        (tmp_path / "app.py").write_text("from celery import Celery\napp = Celery('app')\n")
        for words in ([*up, "--broker", server.url], worker):
            refused = run(*words, broker=server.url)
            assert refused.returncode == 1
            assert "deletes messages when it is full" in refused.stderr
            assert "maxmemory-policy noeviction" in refused.stderr
            assert "Traceback" not in refused.stderr
        client.close()


def test_a_worker_that_came_before_its_broker_stops_on_one_that_deletes_messages(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text("from celery import Celery\napp = Celery('app')\n")
    server = EmbeddedServer(tmp_path / "server").start()
    server.stop()
    command = [sys.executable, "-m", "celeriac.cli", "worker", "-A", "app", "-Q", "mail"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [*command, "--pool", "solo"],
            cwd=tmp_path,
            env=environment(server.url),
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: "holding what is leased" in (tmp_path / "log").read_text())
        with server:
            client = connect(server.url)
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("maxmemory", "100mb")
            client.close()
            assert worker.wait(30) == 1
        assert "deletes messages when it is full" in (tmp_path / "log").read_text()
    finally:
        worker.kill()
        worker.wait()


def test_a_file_that_is_no_text(run: Run, queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_bytes(b'{"task": "t"}\n\xff\xfe\n')
    result = run("send", "mail", "--file", "jobs.jsonl")
    assert result.returncode == 2
    assert "not UTF-8" in result.stderr


def test_crd(run: Run) -> None:
    printed = yaml.safe_load(run("crd", broker="").stdout)
    assert printed["spec"]["names"]["kind"] == "MessageQueue"
    assert printed == json.loads(run("crd", "-o", "json").stdout)


def on_terminal(words: list[str], env: dict[str, str], folder: Path, typed: str = "") -> str:
    """Run a command on a pseudo-terminal; return all that it wrote."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "celeriac.cli", *words],
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=folder,
        env={**env, "TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(child)
    if typed:
        os.write(parent, typed.encode())
    written = b""
    while select.select([parent], [], [], 10)[0]:
        try:
            data = os.read(parent, 65536)
        except OSError:
            break
        if not data:
            break
        written += data
    os.close(parent)
    process.wait(10)
    return written.decode()


def test_colour_on_a_terminal_only_and_not_against_no_color(
    valkey: Any, queue: Queue, tmp_path: Path
) -> None:
    kill_messages(queue, 1)
    env = environment(url_of(valkey, tmp_path))
    assert "\x1b[31m" in on_terminal(["get"], env, tmp_path)
    assert "\x1b[3" not in on_terminal(["get"], {**env, "NO_COLOR": "1"}, tmp_path)
    assert "\x1b[3" in on_terminal(["doctor"], env, tmp_path)
    assert "\x1b[3" not in on_terminal(["doctor"], {**env, "NO_COLOR": "1"}, tmp_path)


def test_a_question_on_a_terminal(valkey: Any, queue: Queue, tmp_path: Path) -> None:
    kill_messages(queue, 2)
    env = environment(url_of(valkey, tmp_path))
    asked = on_terminal(["dlq", "purge", "mail", "--all"], env, tmp_path, typed="n\n")
    assert "purge all matching dead letters of mail? [y/N]" in asked
    assert queue.stats().dead == 2
    on_terminal(["dlq", "purge", "mail", "--all"], env, tmp_path, typed="y\n")
    assert queue.stats().dead == 0
