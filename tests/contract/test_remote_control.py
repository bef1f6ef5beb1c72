"""Remote control, replies, events and broadcasts stay kombu's Redis code, inside our prefix."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.app.task import Context
from kombu import Connection, Exchange
from kombu.common import Broadcast

from celeriac import MessageRefused
from celeriac.broker.queue import Queue
from celeriac.transport.channel import Transport


@pytest.fixture
def prefix(queue_name: str) -> str:
    return f"test-{queue_name}"


@pytest.fixture
def narrow_url(valkey: Any, redis_client: redis.Redis, prefix: str) -> Iterator[str]:
    """A user who may touch nothing outside the prefix, neither keys nor channels."""
    user = f"user-{prefix}"
    redis_client.execute_command(
        *("ACL", "SETUSER", user, "on", ">narrow pass", "+@all", "-@admin"),
        *("resetkeys", f"~{prefix}:*", "resetchannels", f"&{prefix}:*"),
    )
    yield f"celeriac://{user}:narrow%20pass@127.0.0.1:{valkey.port}/0?prefix={prefix}"
    redis_client.execute_command("ACL", "DELUSER", user)


@contextmanager
def node(app: Celery, name: str) -> Iterator[None]:
    """A mailbox such as a worker has, served by a thread."""
    ready, stop, errors = threading.Event(), threading.Event(), []

    def serve() -> None:
        try:
            with app.connection_for_read() as connection:
                mailbox = app.control.mailbox(connection)
                box = mailbox.Node(name, channel=connection.default_channel)
                box.handlers["ping"] = lambda state: {"ok": "pong"}
                box.handlers["add"] = lambda state, x, y: x + y
                box.listen(channel=connection.default_channel)
                # Subscribed only once the first poll has started.
                ready.set()
                drain_while(connection, lambda: not stop.is_set())
        except Exception as error:  # noqa: BLE001
            errors.append(error)
            ready.set()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)
    time.sleep(0.3)
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert errors == []


def drain_while(connection: Any, wanted: Callable[[], bool], timeout: float = 60) -> None:
    end = time.monotonic() + timeout
    while wanted() and time.monotonic() < end:
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.1)


@contextmanager
def watched(valkey: Any) -> Iterator[Callable[[], list[str]]]:
    """Every command that the server runs meanwhile, as MONITOR prints it."""
    with socket.create_connection(("127.0.0.1", valkey.port)) as watcher:
        watcher.sendall(f"AUTH {valkey.password}\r\nMONITOR\r\n".encode())
        stream = watcher.makefile("rb")
        assert stream.readline() == stream.readline() == b"+OK\r\n"

        def finish() -> list[str]:
            valkey.client().echo("enough")
            lines = iter(stream.readline, b"")
            commands = [line.decode().partition("] ")[2].strip() for line in lines_until(lines)]
            return [command for command in commands if "lua]" not in command]

        yield finish


def lines_until(lines: Iterator[bytes]) -> Iterator[bytes]:
    for line in lines:
        if b'"ECHO" "enough"' in line:
            return
        yield line


def test_broadcast_and_reply_inside_the_prefix(narrow_url: str) -> None:
    app = Celery("test", broker=narrow_url, set_as_current=False)

    with node(app, "n1@host"), node(app, "n2@host"):
        replies = app.control.ping(timeout=2, limit=2)
        assert sorted(name for reply in replies for name in reply) == ["n1@host", "n2@host"]
        assert app.control.ping(destination=["n2@host"], timeout=2, limit=1) == [
            {"n2@host": {"ok": "pong"}}
        ]
        (reply,) = app.control.broadcast(
            "add", arguments={"x": 2, "y": 3}, reply=True, timeout=2, limit=1
        )
        assert reply in ({"n1@host": 5}, {"n2@host": 5})
    app.close()


def test_every_key_and_channel_lies_in_the_prefix(
    valkey: Any, narrow_url: str, prefix: str, queue_name: str, redis_client: redis.Redis
) -> None:
    app = Celery("test", broker=narrow_url, set_as_current=False)
    with watched(valkey) as finish:
        with node(app, "n1@host"):
            assert app.control.ping(timeout=2, limit=1)
            app.send_task("t.x", queue=queue_name)
            app.send_task("t.x", queue=queue_name, countdown=60)
        commands = finish()
    app.close()

    names = [re.findall(r'"((?:[^"\\\\]|\\\\.)*)"', command) for command in commands]
    used = {words[0].upper(): words for words in names if words and prefix in " ".join(words)}
    assert {"SUBSCRIBE", "PUBLISH", "EVALSHA", "SADD", "LPUSH", "BRPOP"} <= set(used)
    assert "PSUBSCRIBE" not in used
    stray = [
        words for words in names if "kombu" in " ".join(words) and prefix not in " ".join(words)
    ]
    assert stray == []
    mine = {key.decode() for key in redis_client.scan_iter(match=f"*{prefix}*")}
    assert mine
    assert {key for key in mine if not key.startswith(f"{prefix}:")} == set()


def test_a_broadcast_task_reaches_every_consumer(narrow_url: str, queue_name: str) -> None:
    got: list[str] = []
    app = Celery("test", broker=narrow_url, set_as_current=False)
    app.conf.task_queues = [Broadcast(f"all-{queue_name}")]
    everyone = {"queue": f"all-{queue_name}", "exchange": f"all-{queue_name}"}
    fanout = Exchange(f"all-{queue_name}", type="fanout")
    with app.connection_for_read() as connection:
        for n in (1, 2):
            consumer = app.amqp.Consumer(
                connection.channel(),
                [Broadcast(f"all-{queue_name}")],
                no_ack=True,
                on_message=lambda message, n=n: got.append(f"{n}:{message.headers['task']}"),
            )
            consumer.consume()
        drain_while(connection, lambda: True, timeout=0.5)  # subscribes
        app.send_task("t.everyone", **everyone)
        app.send_task("t.everyone", **everyone, declare=[fanout])
        drain_while(connection, lambda: len(got) < 4, timeout=5)
    app.close()

    assert sorted(got) == ["1:t.everyone"] * 2 + ["2:t.everyone"] * 2


def test_a_broadcast_that_nobody_hears_is_refused(narrow_url: str, queue_name: str) -> None:
    app = Celery("test", broker=narrow_url, set_as_current=False)
    app.conf.task_queues = [Broadcast(f"all-{queue_name}")]
    everyone = {"queue": f"all-{queue_name}", "exchange": f"all-{queue_name}"}

    for declare in ([], [Exchange(f"all-{queue_name}", type="fanout")]):
        with pytest.raises(MessageRefused, match="take no broadcasts: send with queue="):
            app.send_task("t.everyone", **everyone, declare=declare)
    app.close()


@pytest.mark.parametrize("delay_s", [0, 60])
def test_a_revocation_reaches_the_queue_when_no_worker_is_up(
    narrow_url: str, redis_client: redis.Redis, prefix: str, queue_name: str, delay_s: int
) -> None:
    app = Celery("test", broker=narrow_url, set_as_current=False)
    queue = Queue(redis_client, queue_name, prefix=prefix)
    kept, *gone = (app.send_task("t.x", queue=queue_name, countdown=delay_s) for _ in range(3))

    app.control.revoke(gone[0].id)
    app.control.revoke([gone[1].id, "unknown"])
    app.close()

    if delay_s:
        assert queue.stats().delayed == 1
        assert queue.stats().discarded == 2
    else:
        claim = queue.claim("w", count=5)
        assert [it.id for it in claim.messages] == [kept.id]
        assert {it.id for it, _ in claim.dropped} == {it.id for it in gone}


def test_a_revocation_reaches_the_queue_though_another_queues_worker_confirms_it(
    narrow_url: str, redis_client: redis.Redis, prefix: str, queue_name: str
) -> None:
    app = Celery("test", broker=narrow_url, set_as_current=False)
    queue = Queue(redis_client, queue_name, prefix=prefix)
    result = app.send_task("t.x", queue=queue_name)
    with node(app, "other@host"):
        app.control.revoke(result.id, reply=True, timeout=1, limit=1)
    app.close()

    assert queue.claim("w", count=5).messages == []


def test_a_command_that_nobody_hears_is_told(
    narrow_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Celery("test", broker=narrow_url, set_as_current=False)

    app.control.rate_limit("t.x", "1/s")
    app.control.ping(timeout=0.1)
    app.close()

    told = [it.message for it in caplog.records if it.name.startswith("celeriac")]
    assert told == ["control command 'rate_limit': no worker listens, so nobody has done it"]


def test_events_arrive(valkey: Any, prefix: str) -> None:
    app = Celery("test", broker=f"{valkey.url}?prefix={prefix}", set_as_current=False)
    got: list[str] = []
    stop = threading.Event()

    def receive() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(
                connection, handlers={"custom-thing": lambda event: got.append(event["what"])}
            )
            for _ in receiver.consume(limit=None, timeout=0.2, wakeup=False):
                if stop.is_set() or got:
                    return

    thread = threading.Thread(target=receive)
    thread.start()
    time.sleep(0.5)
    with app.events.default_dispatcher() as dispatcher:
        dispatcher.send("custom-thing", what="happened")
    deadline = time.monotonic() + 5
    while not got and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join(10)
    app.close()

    assert got == ["happened"]


def test_results_sent_back_over_the_broker_arrive(valkey: Any, prefix: str) -> None:
    app = Celery(
        "test", broker=f"{valkey.url}?prefix={prefix}", backend="rpc://", set_as_current=False
    )
    result = app.send_task("t.x", queue="q")
    request = Context(reply_to=app.thread_oid, correlation_id=result.id)

    app.backend.store_result(result.id, 42, "SUCCESS", request=request)

    assert result.get(timeout=5) == 42
    app.close()


def test_a_stock_worker_is_told_which_worker_to_run(
    valkey: Any, tmp_path: Path, queue_name: str
) -> None:
    (tmp_path / "someapp.py").write_text(
        "import celeriac\nfrom celery import Celery\n"
        f"app = Celery('someapp', broker={valkey.url!r})\n"
        f"app.conf.task_default_queue = {queue_name!r}\n"
        "app.conf.broker_connection_retry_on_startup = False\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "someapp", "worker", "-P", "solo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode != 0
    assert f"run `celeriac worker -A YOUR.APP -Q {queue_name}`" in ended.stdout + ended.stderr
    assert valkey.password not in ended.stdout + ended.stderr


def test_non_task_messages_never_enter_a_task_queue(
    valkey: Any, prefix: str, queue_name: str, redis_client: redis.Redis
) -> None:
    with Connection(f"{valkey.url}?prefix={prefix}") as connection:
        assert isinstance(connection.transport, Transport)
        connection.Producer().publish({"a": 1}, routing_key=f"{queue_name}.reply.pidbox")
        with connection.SimpleBuffer(f"{queue_name}.reply.pidbox") as replies:
            assert replies.get(timeout=2).payload == {"a": 1}

    assert Queue(redis_client, f"{queue_name}.reply.pidbox", prefix=prefix).stats().accepted == 0
