"""What somebody writes who may write to the queue's keys: refused, or a dead letter, and harming nobody."""

from __future__ import annotations

import json
import pickle
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from celeriac.broker.damage import wrong_keys
from celeriac.broker.keys import QueueKeys
from celeriac.broker.message import NewMessage
from celeriac.chaos.processes import eventually
from tests.chaos.arena import POOLS, Pool
from tests.chaos.settings import scale
from tests.security.target import Target, peak_kib

STREAMS = ("high", "normal", "low", "isolated")
KEYS = tuple(name.rpartition(":")[2] for name in QueueKeys.of("x").all)
#: A worker may grow by so much over a whole attack, its children included.
FLAT_KIB = 40_000
PICKLE = json.dumps({"ct": "application/x-python-serialize", "ce": "binary"}).encode()
YAML = json.dumps({"ct": "application/x-yaml"}).encode()


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("pool", POOLS)
def test_pickle_and_yaml_are_refused_unread(
    pool: Pool, target: Callable[..., Target], tmp_path: Path
) -> None:
    victim, touched = target(), tmp_path / "touched"
    worker_set = victim.worker_set(pool)
    bomb = pickle.dumps(((Bomb(touched),), {}, {}))
    yaml = f"!!python/object/apply:os.system ['touch {touched}']".encode()
    victim.put(
        NewMessage(id="pickle", task="chaos.work", body=bomb, head=PICKLE),
        NewMessage(id="yaml", task="chaos.work", body=yaml, head=YAML),
    )
    for job in ("pickle", "yaml"):
        assert victim.letter(job).reason == "content_disallowed"
    victim.serves("honest", worker_set)
    assert not touched.exists()
    pickle.loads(bomb)
    assert touched.exists(), "the bomb would have worked"


DEEP = 100_000
HOSTILE: dict[str, tuple[bytes, bytes]] = {
    "deep-body": (b"[" * DEEP + b"]" * DEEP, b""),
    "deep-body-object": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, b""),
    "deep-argument": (b"[[" + b"[" * DEEP + b"]" * DEEP + b"],{},{}]", b""),
    "deep-with-types": (b"[" * DEEP + b'{"__type__":"uuid"}' + b"]" * DEEP, b""),
    "deep-head": (b"[[],{},{}]", b'{"h":' * DEEP + b"1" + b"}" * DEEP),
    "deep-header": (b"[[],{},{}]", b'{"h":{"x":' + b"[" * DEEP + b"]" * DEEP + b"}}"),
    "many-digits": (b"[[" + b"9" * DEEP + b"],{},{}]", b""),
    "gzip-bomb": (zlib.compress(bytes(400_000_000), 9), b'{"h":{"compression":"gzip"}}'),
    "codec-bomb": (
        zlib.compress(bytes(400_000_000), 9),
        b'{"ct":"application/data","ce":"zlib_codec"}',
    ),
    "limit-in-embed": (b'[[],{},{"timelimit":"x"}]', b'{"h":{"timelimit":[1e400,-1]}}'),
    "methods": (b"[[],{},{}]", b'{"h":{"get":1,"update":2}}'),
}


@pytest.mark.parametrize("pool", POOLS)
def test_hostile_bodies_and_heads_are_dead_letters(
    pool: Pool, target: Callable[..., Target]
) -> None:
    victim = target()
    worker_set = victim.worker_set(pool)
    victim.serves("first", worker_set)
    before = peak_kib(worker_set.workers[0])
    for name, (body, head) in HOSTILE.items():
        victim.put(NewMessage(id=name, task="chaos.work", body=body, head=head))
    for name in HOSTILE:
        letter = victim.letter(name)
        wanted = "content_disallowed" if name == "codec-bomb" else "undecodable"
        assert (name, letter.reason, letter.attempt) == (name, wanted, 0)
    victim.serves("last", worker_set)
    # A bomb of 64 MiB is unpacked before it is known for one, in as many children as there are.
    assert peak_kib(worker_set.workers[0]) - before < 2 * 70_000 + FLAT_KIB
    assert victim.settled().dead == len(HOSTILE)


def garbage(target: Target, number: int) -> Iterator[dict[Any, Any]]:
    """Entries that no producer writes."""
    good = target.call("never")
    kinds: list[dict[Any, Any]] = [
        {"what": "ever"},
        {b"\xff\xfe": b"\x80\x81"},
        target.fields(good, p="x"),
        target.fields(good, a="-1"),
        target.fields(good, a="1234567890"),
        target.fields(good, d="1234567890"),
        target.fields(good, q="9" * 400),
        target.fields(good, d="1e5"),
        target.fields(good, l="99999999999"),
        target.fields(good, x="nan"),
        target.fields(good, t="t" * 2000),
        target.fields(good, i=b"\xff" * 2000),
        target.fields(good, y=b"[" * 20_000),
        {**target.fields(good), "z": "one more"},
    ]
    for n in range(number):
        yield kinds[n % len(kinds)]


@pytest.mark.parametrize("pool", POOLS)
def test_thousands_of_garbage_entries_become_dead_letters(
    pool: Pool, target: Callable[..., Target]
) -> None:
    victim, each = (
        target(policy={"deadLetter": {"maxMessages": 1_000_000}}),
        scale(10_000 if pool == "solo" else 1_000, 10_000),
    )
    worker_set = victim.worker_set(pool)
    victim.serves("first", worker_set)
    before = peak_kib(worker_set.workers[0])
    honest = []
    for stream in STREAMS:
        pipeline = victim.queue.client.pipeline(transaction=False)
        for n, entry in enumerate(garbage(victim, each)):
            pipeline.xadd(victim.queue.keys.base + stream, entry)
            if n % 500 == 0:
                pipeline.execute()
                honest.append(f"{stream}-{n}")
                victim.put(victim.call(honest[-1]))
        pipeline.execute()
    stats = victim.settled(within_s=90)
    assert stats.dead == 4 * each
    assert stats.accepted == stats.done + stats.dead == len(honest) + 1 + 4 * each
    assert victim.ran() == {"first", *honest}
    assert {letter.reason for letter in victim.queue.dead(count=200)} == {"undecodable"}
    assert peak_kib(worker_set.workers[0]) - before < FLAT_KIB
    victim.serves("last", worker_set)


def test_names_cannot_write_lines_into_logs(target: Callable[..., Target]) -> None:
    victim = target()
    victim.queue.declare(victim.policy_of({}))
    worker_set = victim.worker_set("solo")
    victim.xadd(victim.fields(victim.call("x"), i="a\nFORGED line", t="no\r\nFORGED line"))
    eventually(lambda: victim.queue.stats().dead, within_s=20)
    log = worker_set.workers[0].log
    assert "\\x0aFORGED line" in log
    assert not any(line.startswith("FORGED") for line in log.splitlines())


# --- sizes --------------------------------------------------------------------------------------------------


def test_a_gigabyte_is_refused_before_it_is_sent(target: Callable[..., Target]) -> None:
    victim = target()
    received = victim.queue.client.info("stats")["total_net_input_bytes"]
    huge = NewMessage(id="huge", task="chaos.work", body=bytes(1_000_000_000))
    (receipt, after) = victim.queue.publish([huge, victim.call("after")])
    assert (receipt.status, after.status) == ("refused", "accepted")
    assert (
        receipt.reason
        == f"message of {len(huge.body)} bytes is over limits.maxMessageBytes 1048576"
    )
    assert victim.queue.publish([huge]) == [receipt]
    assert victim.queue.client.info("stats")["total_net_input_bytes"] - received < 100_000


@pytest.mark.parametrize("pool", POOLS)
def test_what_is_too_large_never_reaches_a_worker(
    pool: Pool, target: Callable[..., Target]
) -> None:
    victim, mib = target(), scale(32, 500)
    worker_set = victim.worker_set(pool)
    victim.serves("first", worker_set)
    before = peak_kib(worker_set.workers[0])
    body = bytes(mib << 20)
    victim.xadd(victim.fields(NewMessage(id="huge", task="chaos.work", body=body)))
    victim.xadd({"what": body}, "high")
    del body
    eventually(lambda: victim.queue.stats().dead == 2, within_s=60, what=victim.trouble)
    victim.serves("last", worker_set)
    assert peak_kib(worker_set.workers[0]) - before < FLAT_KIB
    huge = victim.dead()["huge"]
    assert huge.reason == "too_large"
    assert huge.message == f"{mib << 20} bytes are over limits.maxMessageBytes 1048576"
    assert huge.body_bytes == mib << 20
    assert len(huge.body) < 100_000, "a list of dead letters carries the beginning of each"


def test_a_lower_limit_loses_nothing_that_was_accepted(target: Callable[..., Target]) -> None:
    victim = target(policy={"limits": {"maxMessageBytes": 4_000_000}})
    large = victim.call("large", "chaos.work", "x" * 2_000_000)
    victim.put(large)
    victim.queue.declare(victim.policy_of({"limits": {"maxMessageBytes": 1_000_000}}))
    worker_set = victim.worker_set("solo")
    letter = victim.letter("large")
    assert letter.reason == "too_large"
    victim.queue.declare(victim.policy_of({"limits": {"maxMessageBytes": 4_000_000}}))
    assert victim.queue.redrive([letter.entry]) == 1
    eventually(lambda: "large" in victim.ran(), within_s=20, what=victim.trouble)
    assert victim.settled().dead == 0
    assert not worker_set.ended


# --- other keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_another_type_loses_nothing(key: str, target: Callable[..., Target]) -> None:
    victim = target()
    client, name = victim.queue.client, victim.queue.keys.base + key
    worker_set = victim.worker_set("threads")
    victim.serves("first", worker_set)
    eventually(lambda: victim.queue.stats().done == 1, within_s=20, what=victim.trouble)
    aside = client.rename(name, name + "-aside") if client.exists(name) else None
    client.set(name, "something else")
    sent: list[str] = []
    refusals: list[str] = []
    for n in range(5):
        try:
            (receipt,) = victim.queue.publish([victim.call(f"during-{n}")])
        except redis.ResponseError as error:
            refusals.append(str(error))
        else:
            if receipt.status == "accepted":
                sent.append(f"during-{n}")
            else:
                assert "damaged" in receipt.reason
    assert all(name in refusal for refusal in refusals)
    wrong = wrong_keys(client, victim.queue.keys)
    assert wrong in ([name], [])  # the wake list heals itself
    client.delete(name)
    if aside:
        client.rename(name + "-aside", name)
    eventually(lambda: {*sent} <= victim.ran(), within_s=20, what=victim.trouble)
    victim.serves("last", worker_set)
    stats = victim.settled(law=key != "counters")
    assert (stats.done, stats.dead) == (len(sent) + 2, 0)
    if key == "counters":
        assert stats.imbalance == -len(sent), "what was not counted is what is missing"


def test_nonsense_in_every_other_key_stops_nobody(target: Callable[..., Target]) -> None:
    victim = target()
    base = victim.queue.keys.base
    client: Any = victim.queue.client  # redis-py's types allow less than a server does
    worker_set = victim.worker_set("threads")
    victim.serves("first", worker_set)
    wild = {
        b"\xff\xfe": b"\x80",
        "x" * 1000: "-5",
        "done": "many",
        "accepted": "9" * 5000,
        "turn": "-1",
    }
    client.hset(base + "counters", mapping={**wild, "wait0": "1e99", "dead": str(2**63 - 1)})
    for key in ("delayed", "workers", "cancelled"):
        scores = {b"\xff": 1, "huge": 1e300, "endless": float("inf"), "before": float("-inf")}
        client.zadd(base + key, {**scores, "negative": -5, "-": 0})
    bodies: dict[Any, Any] = {
        "before": "no message",
        "negative": b"\x93\x01\x02\x03",
        "-": b"\xdd\xff\xff\xff\xff",
    }
    client.hset(base + "bodies", mapping={**bodies, "huge": b"\x91" * 1000, b"\xff": b"\xc1"})
    client.lpush(base + "wake", *[b"\xff" * 100] * 50)
    client.xadd(base + "dead", {"what": "ever", b"\xff": b"\xff"})
    client.xadd(base + "dead", {"y": b"[" * 100_000, "q": "9" * 30, "a": "9" * 5000, "r": b"\xff"})
    record = {
        "order": "zzz",
        "version": "x",
        "maxDeliveries": "many",
        "isolateAfter": "",
        "policy": "{",
    }
    client.hset(base + "record", mapping={**record, "maxMessageBytes": "-", "maxMessages": "all"})
    for n in range(3):
        victim.serves(f"honest-{n}", worker_set)
    victim.put(victim.call("fails", "chaos.fail"))
    eventually(
        lambda: len(victim.history.read().of("fails")) == 2, within_s=20, what=victim.trouble
    )
    assert client.zcard(base + "delayed") == 2, "what is never due stays, the rest is found out"
    assert len(victim.queue.dead()) >= 4
    victim.queue.declare(victim.policy_of({}))
    assert victim.queue.record()[1] == victim.policy_of({})
    victim.serves("last", worker_set)


def test_a_stream_whose_ids_are_used_up_loses_nothing(target: Callable[..., Target]) -> None:
    victim = target()
    victim.put(victim.call("held"))
    (held,) = victim.queue.claim("dies", count=1).messages
    client, base = victim.queue.client, victim.queue.keys.base
    client.xadd(base + "normal", {"what": "ever"}, id=f"{2**64 - 1}-{2**64 - 1}")
    (receipt,) = victim.queue.publish([victim.call("late")])
    assert receipt.status == "refused"
    assert "damaged" in receipt.reason
    assert victim.queue.release("dies", [held.lease]) == 1
    stats = victim.queue.stats()
    assert (stats.delayed, stats.accepted) == (1, 1)


def test_what_a_dead_consumer_held_is_no_garbage_for_ever(target: Callable[..., Target]) -> None:
    """Somebody else reads from our group: garbage in its hands is found by whoever reclaims."""
    victim = target()
    victim.xadd({"what": "ever"})
    victim.queue.client.xreadgroup(
        "workers", "stranger", {victim.queue.keys.base + "normal": ">"}, count=1
    )
    worker_set = victim.worker_set("solo")
    victim.serves("honest", worker_set)
    assert victim.settled(within_s=30).dead == 1
