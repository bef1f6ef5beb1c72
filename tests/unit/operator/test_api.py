"""Requests as they go over the wire, and what becomes of the answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kopf
import pytest

from celeriac_operator import kinds
from celeriac_operator.api import Api, ApiError
from celeriac_operator.fence import Fence, Fenced
from tests.unit.operator.conftest import Time


@dataclass
class Server:
    """Answers with what stands in ``answers``, and notes what was asked."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.loads(text) if text else None
            found.asked.append((self.command, self.path, dict(self.headers), body))
            status, answer = found.answers.pop(0) if found.answers else (200, {})
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self._answer
            raise AttributeError(name)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{running.server_address[1]}"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    running.shutdown()
    thread.join()
    running.server_close()


class Client:
    """An Api that leads, and how often it has logged in."""

    def __init__(self, server: Server, clock: Time) -> None:
        self.logins = 0
        self.server = server
        self.fence = Fence(monotonic=clock)
        self.fence.open_until(clock.now + 10)
        self.api = Api(self._login, fence=self.fence, agent="me", monotonic=clock)

    def _login(self) -> kopf.ConnectionInfo:
        self.logins += 1
        return kopf.ConnectionInfo(server=self.server.url, token=f"t{self.logins}")


@pytest.fixture
def client(server: Server, clock: Time) -> Iterator[Client]:
    made = Client(server, clock)
    yield made
    if made.api._pool is not None:
        made.api._pool.clear()


@pytest.mark.parametrize(
    ("sub", "path"),
    [
        ("", "/apis/apps/v1/namespaces/shop/deployments/mail"),
        ("scale", "/apis/apps/v1/namespaces/shop/deployments/mail/scale"),
    ],
)
@pytest.mark.parametrize(
    ("verb", "content", "force"),
    [
        ("apply", "application/apply-patch+yaml", ["true"]),
        ("merge", "application/merge-patch+json", None),
    ],
)
def test_a_patch_says_what_kind_it_is_and_whose(
    server: Server, client: Client, sub: str, path: str, verb: str, content: str, force: Any
) -> None:
    call = getattr(client.api, verb)
    call(kinds.DEPLOYMENTS, "shop", "mail", {"a": 1}, manager="mine", sub=sub)
    ((method, asked, headers, body),) = server.asked
    url, query = urlsplit(asked), parse_qs(urlsplit(asked).query)
    assert (method, url.path, body) == ("PATCH", path, {"a": 1})
    assert headers["Content-Type"] == content
    assert (query["fieldManager"], query.get("force")) == (["mine"], force)
    assert headers["Authorization"] == "Bearer t1"
    assert headers["User-Agent"] == "me"


def test_whoever_is_fenced_sends_no_write_and_may_still_read(
    server: Server, client: Client, clock: Time
) -> None:
    clock.now += 10
    for write in (
        lambda: client.api.create(kinds.PODS, "shop", {}, manager="m"),
        lambda: client.api.apply(kinds.PODS, "shop", "a", {}, manager="m"),
        lambda: client.api.merge(kinds.PODS, "shop", "a", {}, manager="m"),
        lambda: client.api.delete(kinds.PODS, "shop", "a"),
    ):
        with pytest.raises(Fenced):
            write()
    assert server.asked == []
    client.api.get(kinds.PODS, "shop", "a")
    assert [it[0] for it in server.asked] == ["GET"]


def test_a_refusal_is_told_in_the_servers_words(server: Server, client: Client) -> None:
    server.answers = [(422, {"reason": "Invalid", "message": "spec.x: Required value"})]
    with pytest.raises(ApiError, match=r"spec\.x: Required value") as error:
        client.api.create(kinds.PODS, "shop", {}, manager="m")
    assert (error.value.status, error.value.reason) == (422, "Invalid")
    assert not error.value.not_found and not error.value.conflict
    server.answers = [(503, b"<html>")]
    with pytest.raises(ApiError, match="HTTP 503"):
        client.api.get(kinds.PODS, "shop", "a")
    assert client.api.requests == {("POST", "422"): 1, ("GET", "503"): 1}


def test_what_does_not_exist_is_none_and_deleted_already(server: Server, client: Client) -> None:
    server.answers = [(404, {}), (404, {}), (409, {})]
    assert client.api.get(kinds.PODS, "shop", "a") is None
    client.api.delete(kinds.PODS, "shop", "a")
    with pytest.raises(ApiError) as error:
        client.api.delete(kinds.PODS, "shop", "a")
    assert error.value.conflict


def test_all_pages_are_read(server: Server, client: Client) -> None:
    server.answers = [
        (200, {"items": [{"n": 1}], "metadata": {"continue": "more"}}),
        (200, {"items": [{"n": 2}], "metadata": {}}),
    ]
    found = list(client.api.list(kinds.PODS, None, labels="ours"))
    assert found == [{"n": 1}, {"n": 2}]
    queries = [parse_qs(urlsplit(it[1]).query) for it in server.asked]
    assert [it["labelSelector"] for it in queries] == [["ours"], ["ours"]]
    assert queries[1]["continue"] == ["more"]
    assert urlsplit(server.asked[0][1]).path == "/api/v1/pods"


def test_a_token_is_read_again_every_minute_and_at_once_when_it_is_refused(
    server: Server, client: Client, clock: Time
) -> None:
    client.api.get(kinds.PODS, "shop", "a")
    client.api.get(kinds.PODS, "shop", "a")
    assert client.logins == 1
    clock.now += 61
    client.api.get(kinds.PODS, "shop", "a")
    assert client.logins == 2
    server.answers = [(401, {})]
    with pytest.raises(ApiError):
        client.api.get(kinds.PODS, "shop", "a")
    client.api.get(kinds.PODS, "shop", "a")
    assert client.logins == 3
    assert server.asked[-1][2]["Authorization"] == "Bearer t3"


def test_no_answer_is_an_error_too(client: Client, server: Server) -> None:
    server.url = "http://127.0.0.1:1"
    with pytest.raises(ApiError, match="does not answer") as error:
        client.api.get(kinds.PODS, "shop", "a")
    assert error.value.status == 0
