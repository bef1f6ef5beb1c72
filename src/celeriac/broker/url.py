"""Broker URLs: what may be written, and what it means.

    celeriac://user:password@host:6379/0                          one server (redis:// is the same)
    celeriacs://host:6379/0?ssl_ca_certs=/etc/ca.pem              the same over TLS (rediss://)
    celeriac+sentinel://s1:26379;s2:26379/0?master=mymaster       the primary that Sentinels name (sentinel://)
    celeriac+cluster://n1:6379;n2:6379                            a Redis Cluster: some of its nodes

Everything here is decided before a byte is sent, so a wrong URL fails with the part that is wrong and
what would be right, never with a timeout. No text that this module makes contains a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

from celeriac.broker.keys import DEFAULT_PREFIX
from celeriac.broker.replication import Replication
from celeriac.spec.errors import CeleriacError

Kind = Literal["server", "sentinel", "cluster"]

#: Scheme: what answers there, and whether over TLS.
_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "celeriac": ("server", False),
    "celeriacs": ("server", True),
    "celeriac+sentinel": ("sentinel", False),
    "celeriac+cluster": ("cluster", False),
    "redis": ("server", False),
    "rediss": ("server", True),
    "sentinel": ("sentinel", False),
}
_DEFAULT_PORT: dict[Kind, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
WAIT_TIMEOUT_S = 1.0
#: Longer than any blocking read of ours: a server that hangs must not hold us for ever.
SOCKET_TIMEOUT_S = 30.0
_ESCAPE = "in a user name or password, write % / ? # @ : ; , as %25 %2F %3F %23 %40 %3A %3B %2C"


class BrokerURLError(CeleriacError, ValueError):
    """A broker URL that cannot be used; the text names the part and what would be right."""


def _number(text: str) -> float:
    number = float(text)
    if number < 0:
        raise ValueError
    return number


def _positive(text: str) -> float:
    number = _number(text)
    if not number:
        raise ValueError
    return number


def _count(text: str) -> int:
    if not text.isdigit():
        raise ValueError
    return int(text)


def _flag(text: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
        text.lower()
    ]


def _cert_reqs(text: str) -> str:
    short = text.lower().removeprefix("cert_")
    if short not in ("required", "optional", "none"):
        raise ValueError
    return short


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:/-]{1,100}", text):
        raise ValueError
    return text


#: Option of the query: how it is read, and what would be right.
_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "prefix": (_prefix, "1 to 100 letters, digits or ._:/-"),
    "master": (str, "the name of the primary in the Sentinels' configuration"),
    "sentinel_username": (str, "a user name"),
    "sentinel_password": (str, "a password"),
    "tls": (_flag, "true or false"),
    "ssl_ca_certs": (str, "a file of CA certificates"),
    "ssl_ca_path": (str, "a folder of CA certificates"),
    "ssl_certfile": (str, "a file with the client's certificate"),
    "ssl_keyfile": (str, "a file with the client's key"),
    "ssl_password": (str, "the password of the client's key"),
    "ssl_check_hostname": (_flag, "true or false"),
    "ssl_cert_reqs": (_cert_reqs, "required, optional or none"),
    "socket_timeout": (_number, "a number of seconds"),
    "socket_connect_timeout": (_number, "a number of seconds"),
    "health_check_interval": (_number, "a number of seconds"),
    "max_connections": (int, "a whole number"),
    "wait_replicas": (_count, "a whole number of replicas"),
    "wait_timeout": (_positive, "a number of seconds over 0"),
    "client_name": (str, "a name without spaces"),
}
_SECRET = ("sentinel_password", "ssl_password")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerURL:
    """A broker URL taken apart. Its `repr` and `redacted()` show no password."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: bool = False
    prefix: str = DEFAULT_PREFIX
    master_name: str | None = None
    wait_replicas: int = 0
    """How many replicas a publisher waits for, and"""
    wait_timeout: float = WAIT_TIMEOUT_S
    """for how many seconds at most."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    """Connection options under redis-py's names, and `sentinel_username`, `sentinel_password`."""

    @property
    def replication(self) -> Replication | None:
        """What publishers wait for; None when it is the server's own answer."""
        if not self.wait_replicas:
            return None
        return Replication(self.wait_replicas, max(1, round(self.wait_timeout * 1000)))

    def redacted(self) -> str:
        """Write the URL for people and logs: passwords as stars."""
        return self._text(lambda secret: "***")

    def text(self) -> str:
        """Write the URL with its passwords, so that `parse` gives this value again."""
        return self._text(lambda secret: quote(secret, safe=""))

    def _text(self, show: Callable[[str], str]) -> str:
        server = "celeriacs" if self.tls else "celeriac"
        scheme = server if self.kind == "server" else f"celeriac+{self.kind}"
        user = quote(self.username or "", safe="")
        if self.password is not None:
            user += ":" + show(self.password)
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        query: dict[str, Any] = {}
        if self.master_name is not None:
            query["master"] = self.master_name
        if self.prefix != DEFAULT_PREFIX:
            query["prefix"] = self.prefix
        if self.kind != "server" and self.tls:
            query["tls"] = "true"
        if self.wait_replicas:
            query["wait_replicas"] = self.wait_replicas
            query["wait_timeout"] = self.wait_timeout
        query.update((name, value) for name, value in self.options.items() if name not in _SECRET)
        pairs = [urlencode(query)] if query else []
        pairs += [f"{name}={show(self.options[name])}" for name in _SECRET if name in self.options]
        at = f"{user}@" if user else ""
        return f"{scheme}://{at}{hosts}/{self.db}" + (f"?{'&'.join(pairs)}" if pairs else "")


def parse(url: str) -> BrokerURL:
    """Take a broker URL apart. Raises BrokerURLError."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in _SCHEMES:
        raise BrokerURLError(
            f"scheme: a broker URL starts with one of {', '.join(f'{s}://' for s in _SCHEMES)}"
        )
    kind, tls = _SCHEMES[scheme]
    if "#" in rest:
        raise BrokerURLError(f"'#' has no meaning in a broker URL; {_ESCAPE}")
    # kombu separates hosts with ";", and lets each repeat the scheme.
    parts = [_Part.of(part.removeprefix(f"{scheme}://"), kind) for part in rest.split(";") if part]
    hosts = tuple(host for part in parts for host in part.hosts) or (
        ("localhost", _DEFAULT_PORT[kind]),
    )
    if kind == "server" and len(hosts) > 1:
        raise BrokerURLError(
            "host: a broker is one server; for failover between several, name their Sentinels, "
            "celeriac+sentinel://host1:26379;host2:26379/0?master=NAME, or nodes of a cluster, "
            "celeriac+cluster://host1:6379;host2:6379"
        )
    db = next((part.db for part in parts if part.db is not None), 0)
    if kind == "cluster" and db:
        raise BrokerURLError(
            "database: a Redis Cluster has only /0; tell brokers apart by ?prefix="
        )
    options: dict[str, Any] = {}
    for part in parts:
        options.update(part.options)
    tls = options.pop("tls", tls or any(name.startswith("ssl_") for name in options))
    master = options.pop("master", None)
    _check(scheme, kind, tls, master, options)
    return BrokerURL(
        kind=kind,
        hosts=hosts,
        username=next((part.username for part in parts if part.username is not None), None),
        password=next((part.password for part in parts if part.password is not None), None),
        db=db,
        tls=tls,
        prefix=options.pop("prefix", DEFAULT_PREFIX),
        master_name=master,
        wait_replicas=options.pop("wait_replicas", 0),
        wait_timeout=options.pop("wait_timeout", WAIT_TIMEOUT_S),
        options=options,
    )


def _check(
    scheme: str, kind: Kind, tls: bool, master: str | None, options: Mapping[str, Any]
) -> None:
    if kind == "sentinel" and not master:
        raise BrokerURLError(
            "master: a Sentinel URL names the primary, as the Sentinels call it: ?master=mymaster"
        )
    if kind != "sentinel":
        for name in ("master", "sentinel_username", "sentinel_password"):
            if master if name == "master" else name in options:
                raise BrokerURLError(f"{name}: only a celeriac+sentinel:// URL has that option")
    if kind == "server" and tls != _SCHEMES[scheme][1]:
        raise BrokerURLError(
            f"scheme: {scheme}:// is {'not ' if tls else ''}over TLS, the options say otherwise; "
            f"write {'celeriacs' if tls else 'celeriac'}:// (or redis{'s' if tls else ''}://)"
        )
    wait_s = options.get("wait_timeout", WAIT_TIMEOUT_S)
    if options.get("wait_replicas") and wait_s >= options.get("socket_timeout", SOCKET_TIMEOUT_S):
        raise BrokerURLError("wait_timeout: must be shorter than socket_timeout")
    if bool(options.get("ssl_keyfile")) > bool(options.get("ssl_certfile")):
        raise BrokerURLError("ssl_keyfile: needs its certificate: ssl_certfile=FILE")


@dataclass(frozen=True, slots=True)
class _Part:
    """One piece between semicolons: [user[:password]@]host[:port][,...][/db][?options]."""

    hosts: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    db: int | None
    options: dict[str, Any]

    @classmethod
    def of(cls, text: str, kind: Kind) -> _Part:
        before_query, _, query = text.partition("?")
        authority, _, path = before_query.partition("/")
        if "@" in path or "@" in query:
            raise BrokerURLError(f"user and password: '@' stands after the host; {_ESCAPE}")
        user_info, at, host_list = authority.rpartition("@")
        username, colon, password = user_info.partition(":")
        hosts = tuple(_host(host, _DEFAULT_PORT[kind]) for host in host_list.split(",") if host)
        return cls(
            hosts=hosts,
            username=unquote(username) if username else None,
            password=unquote(password) if at and colon else None,
            db=_db(path),
            options=_options(query),
        )


def _host(text: str, default_port: int) -> tuple[str, int]:
    # The text is not repeated in errors: with an unescaped "/" in the password, it holds a part of it.
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(.*))?", text)
    if found is None:
        raise BrokerURLError(f"host: write host:port, or [address]:port for IPv6; {_ESCAPE}")
    host, port = found.groups()
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise BrokerURLError(f"port: must be a number from 1 to 65535; {_ESCAPE}")
    return unquote(host.strip("[]")) or "localhost", int(port) if port else default_port


def _db(path: str) -> int | None:
    if path in ("", "/"):
        return None
    if not (path.isascii() and path.isdigit()):
        raise BrokerURLError(f"database: the path must be a number, such as /0; {_ESCAPE}")
    return int(path)


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise BrokerURLError(f"option {name!r} is unknown; known are {', '.join(_OPTIONS)}")
        read, right = _OPTIONS[name]
        try:
            if not text:
                raise ValueError
            options[name] = read(text)
        except (ValueError, KeyError):
            raise BrokerURLError(f"option {name}: must be {right}") from None
    return options


def celery_broker_url(url: str) -> str:
    """Write any accepted URL with the scheme that makes kombu use this package's transport."""
    return parse(url).text()
