"""Everything runs as an ACL user who may touch one prefix, and nothing else; who may do less, does less."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from redis.exceptions import NoPermissionError

from celeriac import Client
from celeriac.broker.connection import connect
from celeriac.broker.queue import Queue
from celeriac.broker.url import parse
from celeriac.chaos.processes import eventually
from celeriac.cli.permissions import acl_rule
from celeriac.client.publisher import publisher_for
from celeriac.spec.policies import QueuePolicy
from tests.chaos.arena import POOLS, Pool
from tests.security.target import Target

ROOT = Path(__file__).parents[2]
PREFIX = "shop"


class Shop(Target):
    """A target whose workers, producers and observers log in as a user of one prefix."""

    def user(self, name: str, *rules: str) -> str:
        """Make a user; returns the broker's URL for them."""
        admin: Any = self.admin
        admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">pw", *rules)
        host = f"127.0.0.1:{self.server.port}"
        return f"celeriac://{name}:pw@{host}/0?prefix={PREFIX}"

    def open(self) -> None:
        self.admin = self.as_admin()
        self.login = self.user("worker", *acl_rule(PREFIX).split())
        self.queue = Queue(connect(self.login), "chaos", prefix=PREFIX, lease_ms=2000)
        self.queue.declare(QueuePolicy.model_validate({"deadLetter": {"unknownTaskSeconds": 0}}))
        self.client = Client(self.login)
        self.environment["CELERIAC_BROKER_URL"] = self.login

    def close(self) -> None:
        self.admin.close()
        super().close()

    def refusals(self) -> set[str]:
        """What the server refused to any user."""
        log: Any = self.admin.execute_command("ACL", "LOG")
        rows = [
            dict(zip(it[::2], it[1::2], strict=True)) if isinstance(it, list) else it for it in log
        ]
        # redis-py tells its own version, and does not mind; Redis 7.0 has no such right to give.
        return {row[b"object"].decode() for row in rows} - {"client|setinfo"}

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line as this user."""
        return subprocess.run(
            [sys.executable, "-m", "celeriac.cli", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "CELERIAC_BROKER_URL": self.login, **environment},
        )


@pytest.fixture
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    with Shop(tmp_path, seed=request.node.name) as shop:
        yield shop


@pytest.mark.parametrize("pool", POOLS)
def test_workers_and_producers_need_no_right_beyond_their_prefix(pool: Pool, shop: Shop) -> None:
    worker_set = shop.worker_set(pool)
    app = Celery("sender", broker=shop.login, set_as_current=False)
    app.conf.task_default_queue = "chaos"
    app.send_task("chaos.work", ["celery"])
    app.send_task("chaos.work", ["packed"], compression="gzip")
    shop.client.send("chaos", "chaos.again", args=["again", 1])
    shop.client.send("chaos", "chaos.fail", args=["fail"], delay=0.1, dedup_key="k")
    shop.client.send("chaos", "no.such.task", id="unknown")
    # A worker serves before it listens to remote control.
    eventually(
        lambda: app.control.inspect(timeout=1).ping(),
        within_s=20,
        what=lambda: f"a ping is answered; {shop.refusals()} {shop.trouble()}",
    )
    wanted = {"celery", "packed", "again-1", "again-0", "again-next", "fail"}
    eventually(lambda: wanted <= shop.ran(), within_s=30, what=shop.trouble)
    shop.queue.redrive([shop.letter("unknown").entry])
    for words in (
        ["doctor"],
        ["get"],
        ["dlq", "ls", "chaos"],
        ["pause", "chaos"],
        ["resume", "chaos"],
    ):
        ran = shop.run(*words)
        assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
    assert worker_set.drain() == [0]
    app.close()
    publisher_for.cache_clear()
    assert shop.refusals() == set(), "nothing was even tried that is not allowed"
    keys: Any = shop.admin.scan_iter()
    assert all(key.startswith(b"shop:") for key in keys)


def test_up_needs_no_right_beyond_its_prefix(shop: Shop, tmp_path: Path) -> None:
    queues = tmp_path / "queues.yaml"
    queues.write_text(
        "apiVersion: celeriac.dev/v1alpha1\nkind: MessageQueue\nmetadata: {name: chaos}\n"
        "spec:\n  worker: {app: 'tests.security.jobs:app', pool: Solo}\n"
        "  schedules: [{name: s, cron: '* * * * *', task: chaos.work, args: [due]}]\n"
        "  autoscaling: {minReplicas: 1}\n"
    )
    log = (tmp_path / "up.log").open("wb")
    words = ["up", "-f", str(queues), "--broker", shop.login, "--metrics-port", "0"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "celeriac.cli", *words],
        cwd=tmp_path,
        env={**environment, "CHAOS_SIDE_FILE": str(shop.history.path)},
        stdout=log,
        stderr=log,
    )
    try:
        shop.put(shop.call("by-up"))
        told = lambda: (tmp_path / "up.log").read_text()[-2000:]  # noqa: E731
        eventually(lambda: "by-up" in shop.ran(), within_s=40, what=told)
    finally:
        process.terminate()
        assert process.wait(60) == 0
        log.close()
    assert shop.refusals() == set()


def test_a_user_of_another_prefix_reaches_nothing_here(shop: Shop) -> None:
    url = shop.user("stranger", *acl_rule("other").split())
    stranger = connect(url)
    client = Client(url)
    shop.put(shop.call("waits"))
    for attempt in (
        lambda: client.send("chaos", "chaos.work", args=["forged"]),
        lambda: stranger.xadd("shop:{chaos}:normal", {"p": "n"}),
        lambda: Queue(stranger, "chaos", prefix=PREFIX).claim("w", count=1),
        lambda: Queue(stranger, "chaos", prefix=PREFIX).stats(),
        lambda: Queue(stranger, "chaos", prefix=PREFIX).purge(),
        lambda: stranger.eval("return redis.call('DEL', KEYS[1])", 1, "shop:{chaos}:normal"),
        lambda: stranger.eval("return redis.call('DEL', 'shop:{chaos}:normal')", 0),
        lambda: stranger.publish("shop:kombu:/0.celery.pidbox", "shutdown"),
    ):
        with pytest.raises(redis.ResponseError) as caught:
            attempt()
        assert isinstance(caught.value, NoPermissionError) or "ermission" in str(caught.value)
    assert shop.queue.stats().ready == 1
    # The same names under a prefix of their own are another queue.
    with Client(url.replace(f"prefix={PREFIX}", "prefix=other")) as own:
        assert own.send("chaos", "chaos.work", args=["theirs"]).status == "accepted"
    assert shop.queue.stats().ready == 1
    stranger.close()


def documented() -> list[str]:
    """The rule for a producer, as docs/security.md has it."""
    text = (ROOT / "docs" / "security.md").read_text()
    rule = text.partition("ACL SETUSER web on >password ")[2].partition("```")[0]
    return re.findall(r"\([^)]*\)|\S+", rule.replace("{orders}", "{chaos}"))


def test_a_producer_can_do_with_the_rights_that_the_page_gives(shop: Shop) -> None:
    url = shop.user("web", *documented())
    with Client(url) as client:
        assert client.send("chaos", "chaos.work", args=["now"]).status == "accepted"
        sent = client.send("chaos", "chaos.work", args=["later"], delay=60, dedup_key="k")
        again = client.send("chaos", "chaos.work", args=["later"], delay=60, dedup_key="k")
        assert (sent.status, again.status) == ("accepted", "duplicate")
        for attempt in (lambda: client.send("other", "chaos.work"), lambda: client.stats("chaos")):
            with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
                attempt()
    with connect(parse(url)) as web:
        for command in (
            ("XRANGE", "shop:{chaos}:normal", "-", "+"),
            ("XREADGROUP", "GROUP", "workers", "w", "STREAMS", "shop:{chaos}:normal", ">"),
            ("XDEL", "shop:{chaos}:normal", "1-1"),
            ("DEL", "shop:{chaos}:normal"),
            ("SET", "shop:{chaos}:normal", "nothing"),
            ("GET", "shop:{chaos}:normal"),
            ("XADD", "shop:{other}:normal", "*", "f", "v"),
        ):
            with pytest.raises(NoPermissionError):
                web.execute_command(*command)
    worker_set = shop.worker_set("solo")
    shop.serves("honest", worker_set)
    eventually(lambda: len(shop.ran()) == 2, within_s=20, what=shop.trouble)


def test_rights_that_are_taken_away_and_given_back_lose_nothing(shop: Shop) -> None:
    worker_set = shop.worker_set("threads")
    shop.serves("first", worker_set)
    shop.user("worker")
    shop.admin.client_kill_filter(_type="normal", skipme=True)
    eventually(
        lambda: "holding what is leased" in worker_set.workers[0].log,
        within_s=20,
        what=shop.trouble,
    )
    shop.user("worker", *acl_rule(PREFIX).split())
    shop.serves("last", worker_set)
    assert shop.settled().done == 2
