"""Workers with signing keys: they run what was signed for their queue, and nothing else."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from celery import Celery

import celeriac
from celeriac import Client
from celeriac.broker.message import NewMessage
from celeriac.broker.queue import Queue
from celeriac.broker.signing import SigningKeys, read_keys
from celeriac.chaos.processes import eventually
from celeriac.client.publisher import publisher_for
from celeriac.spec.policies import QueuePolicy
from tests.chaos.arena import POOLS, Pool
from tests.security.target import Target

OLD = "k1:" + base64.b64encode(b"1" * 32).decode()
NEW = "k2:" + base64.b64encode(b"2" * 32).decode()
FOREIGN = "k2:" + base64.b64encode(b"x" * 32).decode()
KEYS = {"CELERIAC_SIGNING_KEYS": f"{NEW},{OLD}"}
FAST = {
    "retry": {"backoff": {"initialSeconds": 0, "maxSeconds": 0}},
    "deadLetter": {"unknownTaskSeconds": 0},
}


@pytest.fixture
def keyed(target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> Target:
    """A target whose workers have keys, as has this process when it sends."""
    monkeypatch.setenv(*next(iter(KEYS.items())))
    return target(policy=FAST, environment=KEYS)


def signed(target: Target, message: NewMessage, *pairs: str, queue: str = "chaos") -> NewMessage:
    """A message signed by hand."""
    keys = SigningKeys(read_keys(",".join(pairs or (NEW,)), source="test"))
    place = Queue(target.queue.client, queue).keys.base
    head = keys.sign(place, message.id, message.task, message.head, message.body)
    return replace(message, head=head)


def refused(target: Target, job: str, text: str) -> None:
    """Hold that a message became a dead letter for its signature, at once and unseen by any task."""
    letter = target.letter(job)
    assert (letter.reason, letter.error) == ("bad_signature", "BadSignature")
    assert (letter.attempt, letter.delivery) == (0, 1)
    assert text in letter.message
    assert job not in target.ran()


@pytest.mark.parametrize("pool", POOLS)
def test_every_way_to_send_signs(pool: Pool, keyed: Target) -> None:
    keyed.worker_set(pool)
    app = Celery("sender", broker=keyed.server.url, set_as_current=False)
    app.conf.task_default_queue = "chaos"
    with Client(keyed.server.url) as client:
        client.send("chaos", "chaos.work", args=["send"])
        client.send("chaos", "chaos.work", args=["delayed"], delay=0.2)
        client.send_many("chaos", [celeriac.Job("chaos.work", (f"many{n}",)) for n in range(3)])
        app.send_task("chaos.work", ["celery"])
        app.send_task("chaos.work", ["packed"], compression="gzip")  # through kombu's own producer
        with app.producer_pool.acquire() as producer, producer.batch():
            app.send_task("chaos.work", ["batch"], producer=producer)
        # A retry with other arguments is signed by the worker, and so is what a task sends.
        client.send("chaos", "chaos.again", args=["again", 2])
        client.send("chaos", "chaos.fail", args=["failed-once"])
    arguments = ["send", "chaos", "chaos.work", "--args", '["shell"]', "--broker", keyed.server.url]
    subprocess.run([sys.executable, "-m", "celeriac.cli", *arguments], check=True, timeout=60)
    wanted = {"send", "delayed", "many0", "many1", "many2", "celery", "packed", "batch", "shell"}
    wanted |= {"again-2", "again-1", "again-0", "again-next", "failed-once"}
    eventually(
        lambda: wanted <= keyed.ran(), within_s=30, what=lambda: f"{keyed.ran()} {keyed.dead()}"
    )
    assert keyed.settled().dead == 0
    app.close()
    publisher_for.cache_clear()


@pytest.mark.parametrize("pool", POOLS)
def test_forged_and_tampered_messages_are_dead_letters_that_say_why(
    pool: Pool, keyed: Target
) -> None:
    worker_set = keyed.worker_set(pool)
    call = keyed.call
    honest = signed(keyed, call("honest"))
    keyed.put(
        call("unsigned"),
        signed(keyed, call("by-another-secret"), FOREIGN),
        signed(keyed, call("by-unknown-key"), OLD.replace("k1", "k0")),
        signed(keyed, call("for-other-queue"), queue="other"),
        keyed.renamed(honest, "renamed"),
        replace(signed(keyed, call("other-task")), task="chaos.fail"),
        replace(signed(keyed, call("other-body")), body=call("evil").body),
        replace(honest, id="no-such-task", task="no.such.task"),
        keyed.renamed(replace(honest, head=honest.head.partition(b"\n")[2]), "stripped"),
        honest,
        signed(keyed, call("by-old-key"), OLD),
    )
    head = signed(keyed, call("other-head"))
    keyed.put(replace(head, head=head.head + b" "))
    changed = "it was changed, or signed for another queue"
    refused(keyed, "unsigned", "it is not signed, and this worker runs only what is signed")
    refused(keyed, "stripped", "it is not signed")
    refused(keyed, "by-another-secret", changed)
    refused(keyed, "by-unknown-key", "signed by key 'k0', and this worker knows keys k2, k1")
    for job in ("for-other-queue", "renamed", "other-task", "other-body", "other-head"):
        refused(keyed, job, changed)
    refused(keyed, "no-such-task", changed)
    keyed.settled()
    assert keyed.ran() == {"honest", "by-old-key"}
    keyed.put(signed(keyed, call("last")))
    eventually(lambda: "last" in keyed.ran(), within_s=20)
    assert not worker_set.ended


def test_what_the_queue_counts_is_not_signed_and_a_replay_is_not_prevented(keyed: Target) -> None:
    """A signature says who wrote a message, not that it is new: docs/security.md tells."""
    keyed.worker_set("solo")
    message = signed(keyed, keyed.call("twice"))
    keyed.xadd(keyed.fields(message, a="2", d="3", q="7", p="l"), "high")
    keyed.xadd(keyed.fields(message))
    eventually(lambda: len(keyed.history.read().of("twice")) == 2, within_s=20)


def test_a_redrive_keeps_the_signature_and_a_forged_message_stays_dead(keyed: Target) -> None:
    keyed.put(keyed.call("forged"), signed(keyed, keyed.call("unlucky", "chaos.gone")))
    keyed.worker_set("solo")
    forged, unlucky = keyed.letter("forged"), keyed.letter("unlucky")
    assert (forged.reason, unlucky.reason) == ("bad_signature", "unknown_task")
    assert unlucky.head.startswith(b"s1 k2 ")
    assert keyed.queue.redrive([forged.entry, unlucky.entry]) == 2
    eventually(lambda: keyed.queue.stats().dead_total == 4, within_s=20, what=keyed.trouble)
    assert {it.id: it.reason for it in keyed.dead().values()} == {
        "forged": "bad_signature",
        "unlucky": "unknown_task",
    }


def test_a_forged_message_writes_nobody_elses_result(target: Callable[..., Target]) -> None:
    keyed = target(environment=KEYS)
    url = keyed.server.url.replace("celeriac://", "redis://")
    keyed.environment["CELERY_RESULT_BACKEND"] = url
    app = Celery("reader", backend=url, set_as_current=False)
    keyed.worker_set("solo")
    # Without a head: it does not say that nobody wants its result.
    keyed.put(replace(keyed.call("victim", "no.such.task"), head=b""))
    keyed.letter("victim")
    assert app.AsyncResult("victim").state == "PENDING"
    app.close()


def test_signed_messages_run_where_nobody_asks_for_a_signature(
    target: Callable[..., Target],
) -> None:
    """The first step of a rollout: producers sign, and workers do not look yet."""
    plain = target(policy=FAST)
    plain.put(signed(plain, plain.call("signed")), plain.call("unsigned"))
    plain.put(signed(plain, plain.call("again", "chaos.again", 1)))
    plain.worker_set("solo")
    eventually(lambda: {"signed", "unsigned", "again-next"} <= plain.ran(), within_s=20)
    assert plain.settled().dead == 0


def test_a_rollout_may_let_unsigned_messages_pass(target: Callable[..., Target]) -> None:
    loose = target(environment={**KEYS, "CELERIAC_SIGNING_REQUIRED": "0"})
    loose.put(loose.call("unsigned"), signed(loose, loose.call("forged"), FOREIGN))
    loose.put(signed(loose, loose.call("signed")))
    loose.worker_set("threads")
    refused(loose, "forged", "changed")
    loose.settled()
    assert loose.ran() == {"unsigned", "signed"}


def test_keys_in_a_file_rotate_under_a_running_worker(
    target: Callable[..., Target], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(OLD)
    keyed = target(environment={"CELERIAC_SIGNING_KEYS_FILE": str(file)})
    keyed.worker_set("prefork")
    keyed.put(signed(keyed, keyed.call("before"), OLD), signed(keyed, keyed.call("early"), NEW))
    refused(keyed, "early", "signed by key 'k2'")
    beside = tmp_path / "next"
    beside.write_text(f"{NEW}\n{OLD}\n")
    beside.replace(file)
    keyed.put(signed(keyed, keyed.call("after"), NEW), signed(keyed, keyed.call("still"), OLD))
    eventually(lambda: {"before", "after", "still"} <= keyed.ran(), within_s=20)
    assert keyed.settled().dead == 1


def test_a_worker_with_unusable_keys_does_not_start(target: Callable[..., Target]) -> None:
    broken = target(environment={"CELERIAC_SIGNING_KEYS": "k1:c2hvcnQ="})
    command = broken.command("solo")
    ran = subprocess.run(
        command.arguments("w"),
        env={**command.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "'k1' has 5 bytes, and 32 are the least" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_client_is_told_of_unusable_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_SIGNING_KEYS", "k1")
    with pytest.raises(ValueError, match="openssl rand -base64 32"):
        Client("celeriac://localhost:1/0")


def test_schedules_are_signed(redis_client: redis.Redis, queue_name: str) -> None:
    from celeriac.control.broker import RedisBroker

    keys = SigningKeys(read_keys(NEW, source="test"))
    access = RedisBroker(redis_client, signing=keys).queue(queue_name, lease_seconds=15)
    access.declare(QueuePolicy())
    access.publish([NewMessage(id="due", task="t", body=b"[[],{},{}]")])
    (message,) = Queue(redis_client, queue_name).claim("w", count=1).messages
    place = Queue(redis_client, queue_name).keys.base
    assert keys.verify(place, "due", "t", message.head, message.body) == b""
