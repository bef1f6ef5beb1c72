"""Where a queue's broker is looked for, and how often a Secret is read."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, cast

import pytest

from celeriac.control.broker import BrokerNotConfigured
from celeriac_operator.api import Api, Kind
from celeriac_operator.brokers import BrokerAddress, Brokers
from celeriac_operator.fence import Fence
from celeriac_operator.secrets import ABSENT_S, FRESH_S, READS_PER_S, Secrets
from celeriac_operator.seen import Key, QueueSeen, queue_seen
from celeriac_operator.settings import Settings

if TYPE_CHECKING:
    from tests.unit.operator.conftest import Raw

URL = "celeriac://redis.example:6379/0"


class Stored:
    """Stands in for the API server: Secrets by namespace and name."""

    def __init__(self) -> None:
        self.secrets: dict[Key, dict[str, str]] = {}
        self.reads: list[Key] = []
        self.now = 0.0

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        self.reads.append((namespace, name))
        data = self.secrets.get((namespace, name))
        if data is None:
            return None
        return {"data": {key: base64.b64encode(it.encode()).decode() for key, it in data.items()}}

    def reader(self) -> Secrets:
        return Secrets(cast("Api", self), monotonic=lambda: self.now)


@pytest.fixture
def stored() -> Stored:
    return Stored()


def address(stored: Stored, seen: QueueSeen) -> BrokerAddress:
    settings = Settings(namespace="platform", broker_secret="broker")
    brokers = Brokers(settings, stored.reader(), fence=Fence(), changed=lambda key: None)
    return brokers.address(seen)


NAMED = {"broker": {"secretRef": {"name": "mine", "key": "address"}}}


@pytest.mark.parametrize(
    ("secrets", "spec", "found"),
    [
        ({("shop", "mine"): {"address": URL}}, NAMED, ("shop", "mine")),
        (
            {("shop", "broker"): {"url": URL}, ("platform", "broker"): {"url": URL}},
            {},
            ("shop", "broker"),
        ),
        ({("platform", "broker"): {"url": URL}}, {}, ("platform", "broker")),
    ],
)
def test_the_nearest_secret_is_taken(
    stored: Stored, raw: Raw, secrets: Any, spec: Any, found: Key
) -> None:
    stored.secrets = secrets
    assert address(stored, queue_seen(raw.queue(**spec))).secret == found


@pytest.mark.parametrize(
    ("secrets", "spec", "says"),
    [
        (
            {},
            {},
            "make the Secret broker with the key url in shop (or in platform, for all namespaces)",
        ),
        ({}, NAMED, "the Secret mine does not exist in shop: make it, with the key address"),
        ({("shop", "mine"): {"url": URL}}, NAMED, "the Secret mine in shop has no key address"),
        ({("shop", "mine"): {"address": ""}}, NAMED, "has no key address"),
        ({("shop", "mine"): {"address": "http://x"}}, NAMED, "is no broker URL: scheme"),
        # A Secret that is here counts, and its mistakes are told: no other is taken in silence.
        (
            {("shop", "broker"): {"wrong": URL}, ("platform", "broker"): {"url": URL}},
            {},
            "the Secret broker in shop has no key url",
        ),
    ],
)
def test_what_is_missing_is_named(
    stored: Stored, raw: Raw, secrets: Any, spec: Any, says: str
) -> None:
    stored.secrets = secrets
    with pytest.raises(BrokerNotConfigured) as refusal:
        address(stored, queue_seen(raw.queue(**spec)))
    assert says in str(refusal.value)


def test_a_ca_counts_where_there_is_tls(stored: Stored, raw: Raw) -> None:
    seen = queue_seen(raw.queue(**NAMED))
    stored.secrets = {("shop", "mine"): {"address": URL, "ca.crt": "PEM"}}
    plain = address(stored, seen)
    stored.secrets = {("shop", "mine"): {"address": URL.replace(":", "s:", 1), "ca.crt": "PEM"}}
    secure = address(stored, seen)
    assert (plain.ca, secure.ca) == ("", "PEM")
    assert plain.digest != secure.digest


def test_a_broker_is_the_same_whoever_logs_in(stored: Stored, raw: Raw) -> None:
    seen = queue_seen(raw.queue(**NAMED))

    def at(url: str) -> BrokerAddress:
        stored.secrets = {("shop", "mine"): {"address": url}}
        return address(stored, seen)

    one = at("celeriac://ann:secret@redis.example/0")
    assert one.identity == at("redis://:other@redis.example:6379/0").identity
    assert one.digest != at("redis://:other@redis.example:6379/0").digest
    assert one.identity != at("celeriac://redis.example/1").identity
    assert one.identity != at("celeriac://redis.example/0?prefix=shop").identity
    assert "secret" not in one.digest and len(one.digest) == 12


def test_a_secret_is_read_again_after_a_while(stored: Stored) -> None:
    stored.secrets = {("shop", "mine"): {"url": "a"}}
    reader = stored.reader()
    assert reader.read(("shop", "mine")) == {"url": "a"}
    stored.secrets = {("shop", "mine"): {"url": "b"}}
    stored.now = FRESH_S - 0.1
    assert reader.read(("shop", "mine")) == {"url": "a"}
    stored.now = FRESH_S
    assert reader.read(("shop", "mine")) == {"url": "b"}
    reader.distrust(("shop", "mine"))
    reader.read(("shop", "mine"))
    assert len(stored.reads) == 3


def test_an_absent_one_is_looked_for_less_often(stored: Stored) -> None:
    reader = stored.reader()
    assert reader.read(("shop", "mine")) is None
    stored.now = ABSENT_S - 0.1
    assert reader.read(("shop", "mine")) is None
    assert len(stored.reads) == 1
    stored.now = ABSENT_S
    reader.read(("shop", "mine"))
    assert len(stored.reads) == 2


def test_very_many_are_read_at_a_bounded_rate(stored: Stored) -> None:
    reader = stored.reader()
    keys = [("shop", f"s{number}") for number in range(600)]
    stored.secrets = {key: {"url": "a"} for key in keys}
    for key in keys:
        reader.read(key)
    seconds = 600
    for second in range(seconds):
        stored.now = float(second)
        for key in keys[second % 10 :: 10]:
            reader.read(key)
    assert len(stored.reads) - 600 <= READS_PER_S * seconds


def test_what_is_no_text_is_left_out(stored: Stored) -> None:
    reader = Secrets(cast("Api", Binary()))
    assert reader.read(("shop", "mine")) == {"url": "a"}


class Binary:
    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        return {
            "data": {
                "url": base64.b64encode(b"a").decode(),
                "jks": base64.b64encode(b"\xff\xfe").decode(),
            }
        }
