"""What a kombu connection knows of its broker, and what it shows of it."""

from __future__ import annotations

import pytest
from kombu import Connection

from celeriac.transport.url import adopt


def adopted(url: str, **options: object) -> Connection:
    connection = Connection(url, transport_options=options)
    connection.broker = adopt(connection)
    return connection


def test_who_is_asked_and_as_whom_is_kept() -> None:
    broker = adopted("celeriac://ada:secret@cache:7000/3").broker
    assert (broker.hosts, broker.db) == ((("cache", 7000),), 3)
    assert (broker.username, broker.password, broker.tls) == ("ada", "secret", False)


def test_a_copy_of_a_connection_knows_the_same_broker() -> None:
    connection = adopted("celeriacs://ada:secret@cache/0?prefix=mine")
    again = adopt(connection.clone())
    assert (again.prefix, again.tls, again.password) == ("mine", True, "secret")
    assert again == connection.broker


def test_all_sentinels_are_known() -> None:
    broker = adopted("celeriac+sentinel://a:1;b:2/0?master=m").broker
    assert (broker.kind, broker.hosts) == ("sentinel", (("a", 1), ("b", 2)))


def test_only_the_host_is_shown() -> None:
    connection = adopted("celeriac://ada:secret@cache:7000/3")
    assert str(connection.hostname) == "cache"
    assert "secret" not in f"{connection.hostname} {connection.as_uri()}"


@pytest.mark.parametrize("name", ["socket_timeout", "health_check_interval", "max_connections"])
def test_options_of_the_transport_that_mean_a_connection_are_taken(name: str) -> None:
    assert adopted("celeriac://cache", **{name: 7}).broker.options[name] == 7


def test_what_is_given_in_parts_is_one_broker() -> None:
    parts = {"port": 7000, "userid": "ada", "password": "secret", "virtual_host": "3", "ssl": True}
    broker = adopt(Connection("cache", transport="celeriac", **parts))
    assert (broker.hosts, broker.db, broker.tls) == ((("cache", 7000),), 3, True)
    assert (broker.username, broker.password) == ("ada", "secret")
