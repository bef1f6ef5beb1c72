"""Broker URLs against real servers: ACL users, TLS, Sentinel with a failover."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from celery import Celery
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.sentinel import MasterNotFoundError, Sentinel

from celeriac import Client, Job
from celeriac.broker.connection import celery_broker_url, connect, parse
from celeriac.broker.queue import Queue
from tests.programs import program

Start = Callable[..., subprocess.Popen[bytes]]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start server programs, each with a folder of its own; end them afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: str) -> subprocess.Popen[bytes]:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def answer(client: redis.Redis, seconds: float = 10) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            client.ping()
        except redis.RedisError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def works(url: str, queue_name: str) -> None:
    """Publish over every way that there is, and claim it all."""
    with closing(connect(url)) as client:
        answer(client)
        with Client(url) as sender:
            assert sender.send(queue_name, "t.one").status == "accepted"
            assert sender.send_many(queue_name, [Job("t.many")] * 3).accepted == 3
        app = Celery("test", broker=celery_broker_url(url), set_as_current=False)
        app.send_task("t.app", queue=queue_name)
        with app.connection_for_write() as connection:
            assert connection.default_channel.queue_declare(queue_name).message_count == 5
        app.close()
        queue = Queue(client, queue_name, prefix=parse(url).prefix)
        tasks = sorted(message.task for message in queue.claim("w", count=10).messages)
        assert tasks == ["t.app", "t.many", "t.many", "t.many", "t.one"]


# --- users ------------------------------------------------------------------------------------------


def test_an_acl_user_who_may_touch_the_prefix_only(
    valkey: Any, redis_client: redis.Redis, queue_name: str
) -> None:
    password = "p@ss/w?rd#%:;,+ é"
    redis_client.execute_command(
        *("ACL", "SETUSER", queue_name, "on", f">{password}", "+@all", "-@dangerous", "+info"),
        *("resetkeys", f"~{queue_name}:*", "resetchannels", f"&{queue_name}:*"),
    )
    user = f"{queue_name}:{quote(password, safe='')}"

    works(f"celeriac://{user}@127.0.0.1:{valkey.port}/0?prefix={queue_name}", queue_name)

    with (
        closing(connect(f"redis://{user}@127.0.0.1:{valkey.port}")) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.get("celeriac:queues")
    redis_client.execute_command("ACL", "DELUSER", queue_name)


def test_a_wrong_password_is_told_without_telling_it(valkey: Any) -> None:
    client = connect(f"celeriac://:not-{valkey.password}@127.0.0.1:{valkey.port}")

    with pytest.raises(redis.AuthenticationError) as caught:
        client.ping()

    assert valkey.password not in str(caught.value)


def test_another_database(valkey: Any, queue_name: str) -> None:
    works(f"redis://:{valkey.password}@127.0.0.1:{valkey.port}/3", queue_name)


def test_what_a_client_is_set_to(valkey: Any) -> None:
    with closing(connect(f"{valkey.url}?socket_timeout=7")) as client:
        assert client.client_info()["name"] == "celeriac"
        options = client.connection_pool.connection_kwargs
        assert (options["socket_timeout"], options["socket_connect_timeout"]) == (7, 5)
        assert options["socket_keepalive"] is True
        assert options["health_check_interval"] == 25
        retry: Any = client.get_retry()
        assert retry.get_retries() == 0


def test_a_server_that_is_not_there_fails_at_once() -> None:
    client = connect(f"celeriac://127.0.0.1:{free_port()}")
    began = time.monotonic()

    with pytest.raises(redis.ConnectionError):
        client.ping()

    assert time.monotonic() - began < 2


# --- TLS --------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority of our own, writing PEM files into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self.name, self.key.public_key(), ca=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, address: str = "127.0.0.1") -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), ca=False, address=address)
        crt, pem = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        crt.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return crt, pem

    def _sign(
        self, subject: x509.Name, key: Any, *, ca: bool, address: str = "127.0.0.1"
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(address))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def tls_server(start: Start, authority: Authority, *extra: str, address: str = "127.0.0.1") -> int:
    server = program("redis-server", "valkey-server")
    port = free_port()
    crt, key = authority.issue("server", address=address)
    process = start(
        *(server, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", ""),
        *("--tls-cert-file", str(crt), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(authority.file), *extra),
    )
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"{server} ended: was it built without TLS?")
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return port
        time.sleep(0.02)
    pytest.fail("the server does not listen")


def test_tls_with_an_authority_of_ones_own(
    start: Start, authority: Authority, queue_name: str
) -> None:
    port = tls_server(start, authority, "--tls-auth-clients", "no")

    works(f"celeriacs://127.0.0.1:{port}/0?ssl_ca_certs={authority.file}", queue_name)
    works(f"rediss://127.0.0.1:{port}/1?ssl_cert_reqs=none", queue_name)


def test_tls_with_an_authority_that_the_environment_names(
    start: Start, authority: Authority, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = tls_server(start, authority, "--tls-auth-clients", "no")
    monkeypatch.setenv("CELERIAC_BROKER_CA", str(authority.file))

    works(f"celeriacs://127.0.0.1:{port}/0", queue_name)


def test_tls_checks_who_answers(start: Start, authority: Authority, tmp_path: Path) -> None:
    port = tls_server(start, authority, "--tls-auth-clients", "no", address="127.0.0.9")
    stranger = Authority(tmp_path, "stranger")

    def error(options: str) -> str:
        with pytest.raises(redis.ConnectionError) as caught:
            connect(f"celeriacs://127.0.0.1:{port}/0{options}").ping()
        return str(caught.value)

    assert "certificate verify failed" in error("")
    assert "certificate verify failed" in error(f"?ssl_ca_certs={stranger.file}")
    assert "IP address mismatch" in error(f"?ssl_ca_certs={authority.file}")
    url = f"celeriacs://127.0.0.1:{port}/0?ssl_ca_certs={authority.file}&ssl_check_hostname=false"
    assert connect(url).ping()


def test_tls_with_a_clients_certificate(
    start: Start, authority: Authority, queue_name: str
) -> None:
    port = tls_server(start, authority, "--tls-auth-clients", "yes")
    crt, key = authority.issue("client")
    url = f"celeriacs://127.0.0.1:{port}/0?ssl_ca_certs={authority.file}"

    with pytest.raises(redis.ConnectionError):
        connect(url).ping()
    works(f"{url}&ssl_certfile={crt}&ssl_keyfile={key}", queue_name)


def test_tls_as_celerys_own_settings_say_it(
    start: Start, authority: Authority, queue_name: str
) -> None:
    port = tls_server(start, authority, "--tls-auth-clients", "no")
    app = Celery("test", broker=f"celeriac://127.0.0.1:{port}/0", set_as_current=False)
    app.conf.broker_use_ssl = {"ssl_ca_certs": str(authority.file)}

    app.send_task("t.x", queue=queue_name)

    client = connect(f"celeriacs://127.0.0.1:{port}/0?ssl_ca_certs={authority.file}")
    assert Queue(client, queue_name).stats().accepted == 1
    app.close()


# --- Sentinel ---------------------------------------------------------------------------------------


class Trio:
    """A primary, its replica, and one Sentinel that watches them."""

    password = "se/cret"

    def __init__(self, start: Start, folder: Path) -> None:
        server = program("redis-server")
        self.ports = [free_port(), free_port()]
        common = [
            *("--save", "", "--bind", "127.0.0.1", "--requirepass", self.password),
            *("--masterauth", self.password, "--repl-diskless-sync-delay", "0"),
        ]
        self.primary = start(server, "--port", str(self.ports[0]), *common)
        self.replica = start(
            *(server, "--port", str(self.ports[1]), *common),
            *("--replicaof", "127.0.0.1", str(self.ports[0])),
        )
        for port in self.ports:
            answer(redis.Redis(port=port, password=self.password))
        self._wait_for_link()
        self.sentinel_port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.sentinel_port}\nbind 127.0.0.1\n"
            f"sentinel monitor trio 127.0.0.1 {self.ports[0]} 1\n"
            f"sentinel auth-pass trio {self.password}\n"
            "sentinel down-after-milliseconds trio 500\nsentinel failover-timeout trio 3000\n"
        )
        start(program("redis-sentinel"), str(config))
        answer(redis.Redis(port=self.sentinel_port))
        sentinels: Any = Sentinel([("127.0.0.1", self.sentinel_port)])
        self._primary: Callable[[], int] = lambda: sentinels.discover_master("trio")[1]
        self._until(lambda: len(sentinels.discover_slaves("trio")) == 1)

    @property
    def url(self) -> str:
        unreachable = free_port()
        return (
            f"celeriac+sentinel://:{quote(self.password, safe='')}@127.0.0.1:{unreachable};"
            f"127.0.0.1:{self.sentinel_port}/0?master=trio&socket_connect_timeout=1"
        )

    def fail_over(self) -> None:
        # Replication is asynchronous: what the replica has not got yet is lost with the primary.
        primary = redis.Redis(port=self.ports[0], password=self.password)
        assert primary.wait(1, 5000) == 1
        self.primary.kill()
        self.primary.wait()
        self._until(lambda: self._primary() == self.ports[1])

    def _wait_for_link(self) -> None:
        replica: Any = redis.Redis(port=self.ports[1], password=self.password)
        self._until(lambda: replica.info("replication")["master_link_status"] == "up")

    @staticmethod
    def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(MasterNotFoundError):
                if condition():
                    return
            time.sleep(0.05)
        pytest.fail("the trio did not get there in time")


def test_sentinels_lead_to_the_primary_before_and_after_a_failover(
    start: Start, tmp_path: Path, queue_name: str
) -> None:
    trio = Trio(start, tmp_path)
    works(trio.url, queue_name)

    app = Celery("test", broker=trio.url, set_as_current=False)
    app.send_task("t.before", queue=queue_name)
    sender = Client(trio.url)
    sender.send(queue_name, "t.before")
    trio.fail_over()

    policy = {"max_retries": 40, "interval_start": 0.1, "interval_max": 0.1}
    app.send_task("t.after", queue=queue_name, retry_policy=policy)
    sender.send(queue_name, "t.after")

    client = redis.Redis(port=trio.ports[1], password=trio.password)
    tasks = [message.task for message in Queue(client, queue_name).claim("w", count=10).messages]
    assert tasks == ["t.before", "t.before", "t.after", "t.after"]
    with app.connection_for_write() as connection:
        assert trio.password not in connection.as_uri() + json.dumps(
            str(connection.info()["hostname"])
        )
    sender.close()
    app.close()


def test_a_primary_that_no_sentinel_knows(start: Start, tmp_path: Path) -> None:
    trio = Trio(start, tmp_path)

    with pytest.raises(redis.ConnectionError, match="nobody"):
        connect(trio.url.replace("master=trio", "master=nobody")).ping()
