"""The way to the API server: plain requests and plain dictionaries, counted, fenced and bounded in time."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import kopf
import urllib3

from celeriac.spec.errors import CeleriacError
from celeriac_operator.fence import Fence
from celeriac_operator.resources import Object

#: A write that the server has not answered by then counts as failed; the Lease must outlive it.
TIMEOUT_S = 5.0
_LIST_TIMEOUT_S = 60.0
_LOGIN_EVERY_S = 60.0
_PAGE = 500

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class ApiError(CeleriacError, OSError):
    """The API server said no, or nothing. ``status`` is its HTTP code, 0 when there was no answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def not_found(self) -> bool:
        """The object (or its kind) does not exist."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """It exists already, or somebody else was faster."""
        return self.status == 409


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects: where they are in the API."""

    name: str
    plural: str
    group: str = ""
    version: str = "v1"

    @property
    def base(self) -> str:
        """The path of its group and version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def api_version(self) -> str:
        """As objects spell it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "", sub: str = "") -> str:
        """The path of an object, or of all in a namespace, or of all."""
        parts = [self.base]
        if namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts += [part for part in (name, sub) if part]
        return "/".join(parts)


class Api:
    """One API server. Writes need an open fence; ``request`` asks for none, and is what opens it.

    ``agent`` is how the server's audit log names us.
    """

    def __init__(
        self,
        login: Callable[[], kopf.ConnectionInfo],
        *,
        fence: Fence,
        agent: str = "celeriac-operator",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._login = login
        self._fence = fence
        self._agent = agent
        self._now = monotonic
        self._lock = threading.Lock()
        self._login_at = float("-inf")
        self._known: kopf.ConnectionInfo | None = None
        self._pool: urllib3.PoolManager | None = None
        self.requests: Counter[tuple[str, str]] = Counter()
        """Requests so far, by verb and HTTP code."""

    # --- reading --------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """Read one object; None when it does not exist."""
        try:
            return self.request("GET", kind.path(namespace, name))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    def list(self, kind: Kind, namespace: str | None, *, labels: str = "") -> Iterator[Object]:
        """Read all objects of a kind that carry the labels, a page at a time."""
        query = {"limit": str(_PAGE), **({"labelSelector": labels} if labels else {})}
        while True:
            path = f"{kind.path(namespace)}?{urlencode(query)}"
            page = self.request("GET", path, timeout=_LIST_TIMEOUT_S)
            yield from page.get("items", ())
            more = page.get("metadata", {}).get("continue")
            if not more:
                return
            query["continue"] = more

    # --- writing --------------------------------------------------------------------------------

    def create(self, kind: Kind, namespace: str, body: Object, *, manager: str) -> Object:
        """Create an object. Raises ApiError (``conflict``) when it exists."""
        return self._write("POST", f"{kind.path(namespace)}?fieldManager={manager}", body)

    def apply(
        self, kind: Kind, namespace: str, name: str, body: Object, *, manager: str, sub: str = ""
    ) -> Object:
        """Apply (server-side, forced) what ``body`` declares; other fields stay as they are."""
        path = f"{kind.path(namespace, name, sub)}?fieldManager={manager}&force=true"
        return self._write("PATCH", path, body, content=APPLY)

    def merge(
        self, kind: Kind, namespace: str, name: str, body: Object, *, manager: str, sub: str = ""
    ) -> Object:
        """Change some fields of an object."""
        path = f"{kind.path(namespace, name, sub)}?fieldManager={manager}"
        return self._write("PATCH", path, body, content=MERGE)

    def delete(self, kind: Kind, namespace: str, name: str, body: Object | None = None) -> None:
        """Delete an object; nothing happens when it is gone."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        try:
            self._write("DELETE", kind.path(namespace, name), {**options, **(body or {})})
        except ApiError as error:
            if not error.not_found:
                raise

    def _write(
        self, verb: str, path: str, body: Object, *, content: str = "application/json"
    ) -> Object:
        self._fence.check()
        return self.request(verb, path, body, content=content)

    # --- the request itself ---------------------------------------------------------------------

    def request(
        self,
        verb: str,
        path: str,
        body: Object | None = None,
        *,
        content: str = "application/json",
        timeout: float = TIMEOUT_S,
    ) -> Object:
        """Send one request, whatever the fence says. Raises ApiError."""
        pool, server, headers = self._connected()
        if body is not None:
            headers["Content-Type"] = content
        try:
            answer = pool.request(
                verb,
                server + path,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=min(3.0, timeout), read=timeout),
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            self.requests[verb, "none"] += 1
            raise ApiError(0, "Unreachable", f"the API server does not answer: {error}") from error
        self.requests[verb, str(answer.status)] += 1
        if answer.status == 401:
            self._login_at = float("-inf")
        return _checked(verb, path, answer)

    def _connected(self) -> tuple[urllib3.PoolManager, str, dict[str, str]]:
        with self._lock:
            if self._known is None or self._now() - self._login_at > _LOGIN_EVERY_S:
                fresh = self._login()
                if fresh != self._known or self._pool is None:
                    self._pool = urllib3.PoolManager(
                        num_pools=1, maxsize=16, ssl_context=fresh.as_ssl_context()
                    )
                self._known, self._login_at = fresh, self._now()
            assert self._pool is not None
            headers = {"Accept": "application/json", "User-Agent": self._agent}
            return self._pool, self._known.server, headers | _plain(self._known.as_http_headers())


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    return dict(headers)


def _checked(verb: str, path: str, answer: urllib3.BaseHTTPResponse) -> Object:
    try:
        body: Any = json.loads(answer.data) if answer.data else {}
    except ValueError:
        body = {}
    if answer.status >= 400:
        reason = body.get("reason") or f"HTTP {answer.status}" if isinstance(body, dict) else ""
        text = body.get("message", "") if isinstance(body, dict) else ""
        where = path.partition("?")[0]
        raise ApiError(answer.status, reason, text or f"{verb} {where}: HTTP {answer.status}")
    return body if isinstance(body, dict) else {}
