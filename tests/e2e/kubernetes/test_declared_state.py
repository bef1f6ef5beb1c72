"""Whatever somebody changes, by edit or by hand: soon it is as declared again, and no job has paid for it."""

from __future__ import annotations

import json
import time

from celeriac import Job
from tests.e2e.kubernetes.harness import Object, Platform, lives
from tests.e2e.kubernetes.load import Load
from tests.e2e.kubernetes.waiting import eventually, stays

ONE_WORKER = {"minReplicas": 1, "maxReplicas": 2}
#: A process whose parent ends before it does.
ORPHAN = "import os\nif os.fork() == 0:\n    os.fork()\n    os._exit(0)\nos.wait()"
STATES = """
from pathlib import Path
for it in Path("/proc").glob("[0-9]*/stat"):
    print(it.read_text().rpartition(")")[2].split()[0])
"""


def test_a_policy_is_on_the_broker_at_once_and_starts_nobody_anew(
    platform: Platform, name: str
) -> None:
    platform.declare(name, autoscaling=ONE_WORKER)
    platform.wait_ready(name)
    platform.wait_pods(name, 1)
    before = lives(platform.pods(name, leaving=True))
    generation = platform.get("deployment", name)["metadata"]["generation"]

    platform.patch(
        "mq", name, {"spec": {"retry": {"maxAttempts": 7}, "limits": {"maxMessages": 9}}}
    )
    queue = platform.queue(name)
    eventually(
        lambda: (it := queue.record()[1]).retry.max_attempts == 7 and it.limits.max_messages == 9,
        seconds=2,
        what="the policy on the broker",
        every=0.05,
    )
    platform.patch("mq", name, {"spec": {"paused": True}})
    eventually(lambda: queue.record()[1].paused, seconds=2, what="the pause", every=0.05)
    receipt = platform.client().send(name, "e2e.work", args=(name, 1))
    assert receipt.status == "accepted"
    stays(lambda: queue.stats().ready, seconds=3, what="what a paused queue holds")
    platform.patch("mq", name, {"spec": {"paused": False}})
    platform.wait_done(name, seconds=10)

    platform.wait_ready(name)
    assert lives(platform.pods(name, leaving=True)) == before
    assert platform.get("deployment", name)["metadata"]["generation"] == generation


def test_a_worker_that_is_told_to_end_while_it_starts_ends_at_once(
    platform: Platform, name: str
) -> None:
    """As the first process of its container it would not hear of it, and live for its drain time."""
    platform.declare(name, autoscaling=ONE_WORKER, worker={"drainSeconds": 60})
    for _ in range(3):
        (pod,) = eventually(
            lambda: [it for it in platform.pods(name) if _has_started(it)],
            seconds=60,
            what="a pod whose container has started",
            every=0.05,
        )
        began = time.monotonic()
        platform.kubectl("delete", "pod", pod["metadata"]["name"], "--timeout=60s")
        assert time.monotonic() - began < 20
    platform.wait_ready(name)


def test_what_a_task_leaves_behind_is_reaped(platform: Platform, name: str) -> None:
    platform.declare(name, autoscaling=ONE_WORKER)
    platform.wait_ready(name)
    (pod,) = platform.ready_pods(name)
    where = ("exec", pod["metadata"]["name"], "--")
    platform.kubectl(*where, "python3", "-c", ORPHAN)
    eventually(
        lambda: "Z" not in platform.kubectl(*where, "python3", "-c", STATES),
        seconds=10,
        what="no zombies",
    )


def test_another_environment_starts_new_workers_and_loses_nothing(
    platform: Platform, name: str
) -> None:
    platform.declare(name, autoscaling=ONE_WORKER, worker={"env": [_version("1")]})
    platform.wait_ready(name)
    with Load(platform.client(), name) as load:
        eventually(lambda: len(load.accepted) > 20, seconds=30, what="some load")
        platform.declare(name, autoscaling=ONE_WORKER, worker={"env": [_version("2")]})
        eventually(
            lambda: platform.ledger.notes(name)[-1].version == "2", seconds=60, what="new workers"
        )
        platform.wait_ready(name)
    platform.wait_done(name)
    platform.ledger.check(name, load.accepted)
    assert {it.version for it in platform.ledger.notes(name)} == {"1", "2"}


def test_a_deployment_deleted_by_hand_comes_back(platform: Platform, name: str) -> None:
    platform.declare(name)
    platform.wait_ready(name)
    with Load(platform.client(), name, job_s=0.5) as load:
        eventually(lambda: platform.ledger.finished(name), seconds=60, what="the first job done")
        first = platform.get("deployment", name)["metadata"]["uid"]
        platform.kubectl("delete", "deployment", name)
        eventually(
            lambda: platform.get("deployment", name)["metadata"]["uid"] != first,
            seconds=10,
            what="another Deployment",
        )
        eventually(lambda: platform.ready_pods(name), seconds=60, what="new workers")
    platform.wait_done(name)
    platform.ledger.check(name, load.accepted)
    platform.wait_ready(name)


def test_replicas_changed_by_hand_come_back_and_nobody_fights(
    platform: Platform, name: str
) -> None:
    platform.declare(name, autoscaling=ONE_WORKER)
    platform.wait_pods(name, 1)
    platform.wait_ready(name)
    _scale_by_hand(platform, name, "3")
    assert owners(platform, name, "spec", "replicas") == {"celeriac-operator-scale"}
    _scale_by_hand(platform, name, "0")
    # The API server forgets whose the field is when 0 is set through /scale.
    assert owners(platform, name, "spec", "replicas") <= {"celeriac-operator-scale"}
    platform.kubectl("set", "image", f"deployment/{name}", "worker=localhost/nobody:1")
    eventually(
        lambda: _image(platform, name) == platform.image, seconds=10, what="the declared image"
    )
    ours = {"celeriac-operator", "celeriac-operator-scale"}
    assert owners(platform, name, "spec", "template", "spec") <= ours

    platform.wait_pods(name, 1)
    platform.wait_ready(name)
    time.sleep(3)  # the status settles
    stays(lambda: versions(platform, name), seconds=12, what="objects of an idle queue")


def test_a_queue_is_scaled_through_its_resource(platform: Platform, name: str) -> None:
    platform.declare(name)
    platform.wait_ready(name)
    platform.kubectl("scale", "mq", name, "--replicas=2")
    platform.wait_pods(name, 2)
    assert platform.get("mq", name)["status"]["replicas"] == 2
    platform.kubectl("scale", "mq", name, "--replicas=0")
    platform.wait_pods(name, 0)


def test_a_bad_image_is_told_and_the_old_workers_go_on(platform: Platform, name: str) -> None:
    platform.declare(name, autoscaling=ONE_WORKER)
    platform.wait_pods(name, 1)
    platform.wait_ready(name)
    worker = {"image": "localhost/nobody:1", "podTemplate": _never_pull()}
    platform.patch("mq", name, {"spec": {"worker": worker}})
    eventually(
        lambda: platform.condition(name, "Stalled").get("status") == "True",
        seconds=60,
        what="Stalled",
    )
    told = platform.condition(name, "Stalled")
    assert told["reason"] == "WorkersFailing"
    assert "localhost/nobody:1" in told["message"], told
    platform.client().send_many(name, [Job("e2e.work", args=(name, n)) for n in range(10)])
    platform.wait_done(name, seconds=20)
    platform.declare(name, autoscaling=ONE_WORKER)
    platform.wait_ready(name)


def _scale_by_hand(platform: Platform, name: str, replicas: str) -> None:
    platform.kubectl("scale", "deployment", name, f"--replicas={replicas}")
    eventually(
        lambda: platform.get("deployment", name)["spec"]["replicas"] == 1,
        seconds=10,
        what="one replica again",
    )


def _version(value: str) -> dict[str, str]:
    return {"name": "E2E_VERSION", "value": value}


def _never_pull() -> dict[str, object]:
    mounts = [{"name": "e2e", "mountPath": "/e2e"}]
    container = {"name": "worker", "imagePullPolicy": "Never", "volumeMounts": mounts}
    return {"spec": {"containers": [container]}}


def _image(platform: Platform, name: str) -> str:
    containers = platform.get("deployment", name)["spec"]["template"]["spec"]["containers"]
    return str(containers[0]["image"])


def owners(platform: Platform, name: str, *path: str) -> set[str]:
    """Who has written a field of a queue's Deployment, or something in it."""
    found = set()
    shown = platform.kubectl("get", "deployment", name, "-o", "json", "--show-managed-fields")
    for entry in json.loads(shown)["metadata"]["managedFields"]:
        fields = entry["fieldsV1"]
        for part in path:
            fields = (fields or {}).get(f"f:{part}")
        if fields is not None:
            found.add(entry["manager"])
    return found


def versions(platform: Platform, name: str) -> dict[str, str]:
    """The resource version of everything that belongs to a queue."""
    kinds = "messagequeues,deployments,configmaps,poddisruptionbudgets,pods"
    items = platform.get(kinds)["items"]
    mine = [it for it in items if it["metadata"]["name"].startswith(name)]
    return {
        f"{it['kind']} {it['metadata']['name']}": it["metadata"]["resourceVersion"] for it in mine
    }


def _has_started(pod: Object) -> bool:
    return any("running" in it["state"] for it in pod["status"].get("containerStatuses", ()))
