"""The command line and the operator's link, on a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from celeriac import Client
from celeriac.broker.bulk_stats import stats_of
from celeriac.broker.message import DeadLetter
from celeriac.broker.queue import Queue
from celeriac.broker.url import parse
from celeriac.chaos.processes import eventually
from celeriac.cli.permissions import acl_rule
from celeriac_operator.broker_link import BrokerLink
from celeriac_operator.fence import Fence
from celeriac_operator.seen import Key
from tests.contract.broker.handy import claim, new, policy, settle
from tests.contract.redis_cluster.conftest import Run
from tests.redis_cluster import RedisCluster, slot_of_queue


def celeriac(cluster: RedisCluster, *arguments: str, code: int = 0, url: str = "") -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "celeriac.cli", *arguments],
        env={**os.environ, "CELERIAC_BROKER_URL": url or cluster.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_queues_of_all_nodes_are_listed_sent_to_and_redriven(
    cluster: RedisCluster, client: redis.Redis, names: list[str]
) -> None:
    for name in names:
        queue = Queue(client, name)
        queue.declare(policy())
        queue.publish([new()])
        settle(queue, claim(queue), DeadLetter(reason="rejected"))
        celeriac(cluster, "send", name, "t.x")
        assert "rejected" in celeriac(cluster, "dlq", "ls", name)
        celeriac(cluster, "dlq", "redrive", name, "--reason", "rejected", "--yes")
        celeriac(cluster, "pause", name)
        celeriac(cluster, "resume", name)
    listed = {one["name"]: one for one in json.loads(celeriac(cluster, "get", "-o", "json"))}
    assert [listed[name]["ready"] for name in names] == [2, 2, 2]


def test_the_doctor_looks_at_every_primary(cluster: RedisCluster, names: list[str]) -> None:
    report = json.loads(celeriac(cluster, "doctor", "-o", "json"))
    assert {one["level"] for one in report} <= {"ok", "warn"}
    for node in cluster.primaries():
        its = {
            one["check"].split()[0]: one["level"]
            for one in report
            if one["check"].endswith(f"127.0.0.1:{node.port}")
        }
        checks = ("permissions", "server", "persistence", "memory", "replicas", "clock")
        assert its == dict.fromkeys(checks, "ok")


def test_the_doctors_rule_is_enough_and_no_more(cluster: RedisCluster, queue_name: str) -> None:
    user, rule = f"user-{queue_name}", acl_rule(queue_name, cluster=True).split()
    for node in cluster.nodes:
        node.ask("ACL SETUSER", user, "on", ">pw", "resetkeys", "resetchannels", "-@all", *rule)
    host = cluster.url.rpartition("@")[2]
    url = f"celeriac+cluster://{user}:pw@{host}?prefix={queue_name}"
    with Client(url) as producer:
        producer.send("q", "t")
    assert "fail" not in celeriac(cluster, "doctor", url=url)
    for node in cluster.nodes:
        node.ask("ACL SETUSER", user, "-cluster|slots")
    told = celeriac(cluster, "doctor", url=url, code=3)
    assert "cluster|slots" in told.lower()


def test_a_url_of_one_server_is_told_to_change(cluster: RedisCluster) -> None:
    url = cluster.url_of(cluster.nodes[:1]).replace("celeriac+cluster://", "celeriac://")
    assert "celeriac+cluster://" in celeriac(cluster, "doctor", url=url, code=1)
    assert "celeriac+cluster://" in celeriac(cluster, "get", url=url, code=2)
    away = cluster.names_on_each(1)[-1][0]
    with Client(url) as producer, pytest.raises(redis.ResponseError, match=r"celeriac\+cluster://"):
        producer.send(away, "t")


def test_up_runs_queues_of_several_nodes(
    cluster: RedisCluster, client: redis.Redis, names: list[str], run: Run, tmp_path: Path
) -> None:
    declared = [
        {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "MessageQueue",
            "metadata": {"name": name},
            "spec": {"worker": {"app": "yard:app", "pool": "Solo"}},
        }
        for name in names[:2]
    ]
    file = tmp_path / "queues.yaml"
    file.write_text("---\n".join(json.dumps(one) + "\n" for one in declared))
    up = run("up", "-f", file, "--broker", cluster.url, "--metrics-port", 0)
    with Client(cluster.url) as producer:
        for name in names[:2]:
            producer.send(name, "yard.add", args=(1,))
    eventually(
        lambda: [one.done for one in stats_of(client, names[:2])] == [1, 1],
        within_s=60,
        what=lambda: str(stats_of(client, names[:2])),
    )
    up.terminate()
    assert up.wait(60) == 0


def test_the_operators_link_measures_queues_of_every_node(
    cluster: RedisCluster, client: redis.Redis, names: list[str]
) -> None:
    fence = Fence()
    told: list[Key] = []
    fence.open_until(float("inf"))
    link = BrokerLink(
        parse(cluster.url), fence=fence, changed=told.append, refused=lambda: told.append(("", ""))
    )
    try:
        for name in names:
            link.include(("shop", name), name)
            link.queue(name, lease_seconds=15).declare(policy())
            Queue(client, name).publish([new()])
        keys = {("shop", name) for name in names}
        eventually(
            lambda: (
                {key: one.ready for key, one in link.all_stats().items()} == dict.fromkeys(keys, 1)
            ),
            within_s=20,
        )
        assert set(told) == keys
    finally:
        link.close()


def test_nothing_starts_on_a_cluster_of_which_one_node_evicts(
    cluster: RedisCluster, names: list[str], run: Run
) -> None:
    (name,) = names[1:2]
    node = cluster.owner(slot_of_queue(name))
    node.ask("CONFIG SET", "maxmemory-policy", "allkeys-lru", "maxmemory", 10**9)
    try:
        worker = run("worker", "-A", "yard:app", "-Q", name, "--pool", "solo", "--concurrency", 1)
        assert worker.wait(30) == 1
        told = celeriac(cluster, "doctor", code=1)
        assert f"memory 127.0.0.1:{node.port}" in told
    finally:
        node.ask("CONFIG SET", "maxmemory-policy", "noeviction", "maxmemory", 0)
