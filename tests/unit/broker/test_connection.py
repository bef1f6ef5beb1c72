"""Broker URLs: what they mean, and how a wrong one is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.broker.connection import (
    BrokerURL,
    BrokerURLError,
    celery_broker_url,
    connection_options,
    parse,
)
from celeriac.broker.replication import Replication


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("celeriac://", {"hosts": (("localhost", 6379),)}),
        ("redis://h", {"hosts": (("h", 6379),)}),
        ("celeriac://h:1", {"hosts": (("h", 1),)}),
        ("celeriac://:2/3", {"hosts": (("localhost", 2),), "db": 3}),
        ("celeriac://[::1]:4/", {"hosts": (("::1", 4),)}),
        ("celeriac://[fe80::1]", {"hosts": (("fe80::1", 6379),)}),
        ("celeriac://u:p@h", {"username": "u", "password": "p"}),
        ("celeriac://:p@h", {"username": None, "password": "p"}),
        ("celeriac://u@h", {"username": "u", "password": None}),
        ("celeriac://a%40b:%2F%3F%23%25%20@h", {"username": "a@b", "password": "/?#% "}),
        ("celeriac://:a@b@h:1", {"password": "a@b", "hosts": (("h", 1),)}),
        ("celeriac://h?prefix=tenant:a", {"prefix": "tenant:a"}),
        ("celeriacs://h", {"tls": True}),
        ("rediss://h", {"tls": True}),
        ("redis://h?wait_replicas=2", {"wait_replicas": 2, "wait_timeout": 1.0}),
        (
            "redis://h?wait_replicas=1&wait_timeout=0.5",
            {"wait_replicas": 1, "wait_timeout": 0.5, "replication": Replication(1, 500)},
        ),
        ("redis://h?socket_timeout=1.5", {"options": {"socket_timeout": 1.5}}),
        (
            "rediss://h?ssl_ca_certs=/a/b.pem&ssl_cert_reqs=CERT_NONE&ssl_check_hostname=False",
            {
                "tls": True,
                "options": {
                    "ssl_ca_certs": "/a/b.pem",
                    "ssl_cert_reqs": "none",
                    "ssl_check_hostname": False,
                },
            },
        ),
        (
            "celeriac+sentinel://a:1;b:2/3?master=m",
            {"kind": "sentinel", "hosts": (("a", 1), ("b", 2)), "db": 3, "master_name": "m"},
        ),
        (
            "sentinel://:p@a,b:2/0?master=m",
            {"kind": "sentinel", "hosts": (("a", 26379), ("b", 2)), "password": "p"},
        ),
        (
            "sentinel://a:1/0;sentinel://:p@b:2/3?master=m&sentinel_password=s&tls=true",
            {
                "hosts": (("a", 1), ("b", 2)),
                "password": "p",
                "tls": True,
                "options": {"sentinel_password": "s"},
            },
        ),
        ("celeriac+sentinel://a?master=m&ssl_ca_certs=/ca", {"tls": True}),
        (
            "celeriac+cluster://u:p@a;celeriac+cluster://b:2,c/0?prefix=x&tls=true",
            {"kind": "cluster", "hosts": (("a", 6379), ("b", 2), ("c", 6379)), "tls": True},
        ),
    ],
)
def test_a_url_means(url: str, expected: dict[str, Any]) -> None:
    parsed = parse(url)

    assert {name: getattr(parsed, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:6379", "scheme: .* starts with one of celeriac://, celeriacs://"),
        ("amqp://h", "scheme: "),
        ("celeriac://h:port", "port: must be a number from 1 to 65535"),
        ("celeriac://h:0", "port: "),
        ("celeriac://h:70000", "port: "),
        ("celeriac://h/name", "database: the path must be a number, such as /0"),
        ("celeriac://a,b", "host: a broker is one server; .*celeriac\\+sentinel://"),
        ("redis://a;redis://b", "host: a broker is one server"),
        (
            "celeriac://h?sll_ca_certs=x",
            "option 'sll_ca_certs' is unknown; known are .*ssl_ca_certs",
        ),
        ("redis://h?wait_replicas=-1", "option wait_replicas: must be a whole number of replicas"),
        ("redis://h?wait_replicas=1&wait_timeout=0", "option wait_timeout: must be"),
        ("redis://h?wait_replicas=1&wait_timeout=30", "shorter than socket_timeout"),
        ("celeriac://h?socket_timeout=soon", "option socket_timeout: must be a number of seconds"),
        ("celeriac://h?socket_timeout=-1", "option socket_timeout: must be"),
        ("celeriac://h?prefix=", "option prefix: must be 1 to 100 letters"),
        ("celeriac://h?prefix={a}", "option prefix: "),
        (
            "celeriac://h?ssl_ca_certs=/ca",
            "scheme: celeriac:// is not over TLS.*write celeriacs://",
        ),
        ("rediss://h?tls=false", "scheme: rediss:// is over TLS.*write celeriac://"),
        ("celeriacs://h?ssl_cert_reqs=maybe", "ssl_cert_reqs: must be required, optional or none"),
        ("celeriacs://h?ssl_keyfile=/k", "ssl_keyfile: needs its certificate"),
        ("celeriac+sentinel://h", "master: .*\\?master=mymaster"),
        ("celeriac+cluster://h/1", "database: a Redis Cluster has only /0"),
        ("celeriac+cluster://h?master=m", "master: only a celeriac\\+sentinel:// URL"),
        ("celeriac://h?master=m", "master: only a celeriac\\+sentinel:// URL"),
        ("celeriac://h?sentinel_password=x", "sentinel_password: only"),
        ("celeriac://[::1", "host: write host:port, or \\[address\\]:port"),
    ],
)
def test_a_wrong_url_is_told(url: str, told: str) -> None:
    with pytest.raises(BrokerURLError, match=told):
        parse(url)


@pytest.mark.parametrize("sign", list("/?#@:;,%"))
@pytest.mark.parametrize("place", ["celeriac://u:SECRET{}SECRET@h:1/0", "redis://:SECRET{}@h:1"])
def test_an_unescaped_password_is_never_repeated(place: str, sign: str) -> None:
    try:
        understood = parse(place.format(sign))
    except BrokerURLError as error:
        told = str(error)
    else:
        # "@", ":", "," and a "%" that escapes nothing are clear enough as they stand.
        assert understood.password is not None
        told = understood.redacted() + " %2F"
    assert "SECRET" not in told
    assert "%2F" in told


def test_no_password_in_what_people_read() -> None:
    url = parse("celeriac+sentinel://u:one@h/0?master=m&sentinel_password=two&ssl_password=three")

    for text in (repr(url), str(url), url.redacted()):
        assert not {"one", "two", "three"} & set(text.replace("=", " ").replace(":", " ").split())
        assert "one" not in text
        assert "two" not in text
        assert "three" not in text
    assert url.redacted() == (
        "celeriac+sentinel://u:***@h:26379/0?master=m&tls=true&sentinel_password=***&ssl_password=***"
    )


@given(
    st.builds(
        BrokerURL,
        kind=st.just("server"),
        hosts=st.tuples(
            st.tuples(st.sampled_from(["h", "::1", "10.0.0.1"]), st.integers(1, 65535))
        ),
        username=st.none() | st.text(min_size=1),
        password=st.none() | st.text(),
        db=st.integers(0, 99),
        tls=st.booleans(),
        prefix=st.from_regex(r"[A-Za-z0-9._:/-]{1,100}", fullmatch=True),
    )
)
def test_text_is_what_parse_reads(url: BrokerURL) -> None:
    assert parse(url.text()) == url


def test_sentinels_are_written_so_that_they_are_read_again() -> None:
    url = parse("sentinel://a:1;b:2/3?master=m&tls=true&sentinel_password=a%2Bb%20c")

    assert parse(url.text()) == url


@pytest.mark.parametrize(
    ("url", "celerys"),
    [
        ("redis://:p@h", "celeriac://:p@h:6379/0"),
        ("rediss://h/2", "celeriacs://h:6379/2"),
        ("celeriac://h?prefix=p", "celeriac://h:6379/0?prefix=p"),
        ("sentinel://a;b?master=m", "celeriac+sentinel://a:26379,b:26379/0?master=m"),
        ("celeriac+cluster://a;b?tls=yes", "celeriac+cluster://a:6379,b:6379/0?tls=true"),
    ],
)
def test_celery_gets_a_scheme_of_ours(url: str, celerys: str) -> None:
    assert celery_broker_url(url) == celerys


def test_secrets_of_sentinels_are_not_sent_to_the_server() -> None:
    url = parse("celeriac+sentinel://h?master=m&sentinel_username=a&sentinel_password=b")

    assert not [name for name in connection_options(url) if name.startswith("sentinel")]
