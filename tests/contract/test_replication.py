"""Publishing that waits for replicas: what receipts say, with a real primary and its replica."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
import redis
from celery import Celery

from celeriac import BrokerRefuses, BulkInterrupted, Client, Job, NotReplicated
from celeriac.chaos.processes import eventually
from tests.contract.test_connection import Start, answer, free_port, start
from tests.programs import program

__all__ = ["start"]

ASK = "wait_replicas=1&wait_timeout=0.5"


class Pair:
    """A primary and its replica."""

    def __init__(self, start: Start, server: str) -> None:
        self.ports = [free_port(), free_port()]
        common = ["--save", "", "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0"]
        start(server, "--port", str(self.ports[0]), *common)
        self.replica = start(
            *(server, "--port", str(self.ports[1]), *common),
            *("--replicaof", "127.0.0.1", str(self.ports[0])),
        )
        self.primary = redis.Redis(port=self.ports[0])
        answer(self.primary)
        self.wait_for_link()

    def wait_for_link(self) -> None:
        """Wait until the replica has what the primary has."""
        replica: Any = redis.Redis(port=self.ports[1])
        answer(replica)
        eventually(lambda: replica.info("replication")["master_link_status"] == "up")
        self.primary.set("probe", time.monotonic())
        eventually(lambda: replica.get("probe") == self.primary.get("probe"))
        eventually(lambda: self.primary.wait(1, 1000) == 1)

    @property
    def url(self) -> str:
        return f"celeriac://127.0.0.1:{self.ports[0]}/0?{ASK}"

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Keep the replica from hearing anything."""
        self.replica.send_signal(SIGSTOP)
        try:
            yield
        finally:
            self.replica.send_signal(SIGCONT)
            self.wait_for_link()


@pytest.fixture(params=["Redis", "Valkey"])
def pair(start: Start, request: pytest.FixtureRequest) -> Pair:
    redis = request.param == "Redis"
    return Pair(start, program("redis-server" if redis else "embedded"))


def test_a_receipt_says_how_many_replicas_have_the_message(pair: Pair) -> None:
    with Client(pair.url) as client:
        receipt = client.send("q", "t")
        assert (receipt.status, receipt.replicas, receipt.wanted) == ("accepted", 1, 1)
        assert client.send_many("q", [Job("t")] * 900).not_replicated == []
        with pair.cut_off():
            began = time.monotonic()
            receipt = client.send("q", "t")
            assert 0.45 < time.monotonic() - began < 5
            assert (receipt.status, receipt.replicas, receipt.replicated) == ("accepted", 0, False)
            assert len(client.send_many("q", [Job("t")] * 2).not_replicated) == 2
        assert client.send("q", "t").replicated
        assert client.stats("q").accepted == 905


def test_nobody_waits_who_did_not_ask_for_it(pair: Pair) -> None:
    with Client(pair.url.partition("?")[0]) as client, pair.cut_off():
        began = time.monotonic()
        receipt = client.send("q", "t")
        assert time.monotonic() - began < 0.45
        assert (receipt.replicas, receipt.wanted, receipt.replicated) == (0, 0, True)


def test_sending_again_with_a_dedup_key_tells_whether_the_first_one_has_arrived(
    pair: Pair,
) -> None:
    with pair.cut_off():
        for status in ("accepted", "duplicate"):
            with Client(
                pair.url
            ) as client:  # on a connection of its own, which has written nothing
                receipt = client.send("q", "t", dedup_key="k")
                assert (receipt.status, receipt.replicated) == (status, False)
    with Client(pair.url) as client:
        receipt = client.send("q", "t", dedup_key="k")
        assert (receipt.status, receipt.replicated) == ("duplicate", True)
        assert client.stats("q").accepted == 1


def test_a_server_that_forgot_its_scripts_is_waited_for_too(pair: Pair) -> None:
    with Client(pair.url) as client:
        client.send("q", "t")
        pair.primary.script_flush()
        assert client.send("q", "t").replicated
        pair.primary.script_flush()
        with pair.cut_off():
            assert not client.send("q", "t").replicated


def test_celerys_own_producer_raises_what_a_receipt_would_say(pair: Pair) -> None:
    app = Celery("test", broker=pair.url, set_as_current=False)
    app.send_task("t", queue="q")
    with pair.cut_off(), pytest.raises(NotReplicated, match="only 0 of 1 replicas"):
        app.send_task("t", queue="q")
    app.close()
    with Client(pair.url) as client:
        assert client.stats("q").accepted == 2, "it was repeated"


def test_a_primary_that_wants_replicas_refuses_without_them(pair: Pair) -> None:
    with Client(pair.url) as client:
        client.send("q", "t")
        pair.primary.config_set("min-replicas-max-lag", 1)
        pair.primary.config_set("min-replicas-to-write", 1)
        pair.replica.kill()

        def refused() -> bool:
            try:
                client.send("q", "t", dedup_key="k")
            except BrokerRefuses as error:
                return "min-replicas-to-write" in str(error)
            return False

        eventually(refused)
        with pytest.raises(BulkInterrupted, match="0 uncertain, 1 not sent") as caught:
            client.send_many("q", [Job("t")])
        told: Any = caught.value
        assert isinstance(told.__cause__, BrokerRefuses)
