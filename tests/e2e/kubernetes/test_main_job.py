"""The main job on a cluster: install three charts, send real jobs, see all of them done."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping

import pytest

from celeriac import Job
from tests.e2e.kubernetes.conftest import MESSAGING_IMAGE, ROOT, TAG, Platform, eventually

QUEUES = (
    "message-delivery",
    "message-notification",
    "message-indexing",
    "message-encryption",
    "batch-message-sending",
    "message-cleanup",
)
JOBS = 2000


@pytest.mark.timeout(420)
def test_six_queues_run_two_thousand_real_jobs(platform: Platform) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    platform.kubectl(
        "create",
        "secret",
        "generic",
        "messaging-settings",
        f"--from-literal=MESSAGING_KEYS=k1={key}",
    )
    platform.helm(
        "install",
        "messaging",
        str(ROOT / "charts/messaging"),
        f"--set=image.repository={MESSAGING_IMAGE},image.tag={TAG},secretName=messaging-settings",
    )
    for queue in QUEUES:
        platform.wait_ready(queue)

    from_inside = f"""
from celeriac import Client
from messaging.payloads import Encryption, Indexing
from messaging.service import MessageQueueService
service = MessageQueueService(Client())
half = {JOBS} // 2
texts = [f"message number {{n}}: привіт, 世界, 🌍" for n in range(half)]
done = service.index_many(
    Indexing(tenant="e2e", message_id=f"m{{n}}", text=text) for n, text in enumerate(texts)
)
more = service.encrypt_many(
    Encryption(tenant="e2e", message_id=f"m{{n}}", operation="seal", text=text)
    for n, text in enumerate(texts)
)
print(done.accepted + more.accepted)
"""
    sender = {
        "spec": {
            "containers": [
                {
                    "name": "sender",
                    "image": f"{MESSAGING_IMAGE}:{TAG}",
                    "command": ["python3", "-c", from_inside],
                    "env": [
                        {
                            "name": "CELERIAC_BROKER_URL",
                            "valueFrom": {
                                "secretKeyRef": {"name": "celeriac-broker", "key": "url"}
                            },
                        }
                    ],
                }
            ],
            "restartPolicy": "Never",
        }
    }
    run_pod(platform, "sender", sender)
    assert platform.kubectl("logs", "sender").strip() == str(JOBS)

    for queue in ("message-indexing", "message-encryption"):
        platform.wait_done(queue, seconds=180)
        stats = platform.queue(queue).stats()
        assert stats.done == JOBS // 2
        assert stats.imbalance == 0
    platform.helm("test", "celeriac")
    platform.helm("test", "messaging")


def test_pods_appear_with_the_first_message_and_go_with_the_last(
    platform: Platform, name: str
) -> None:
    platform.declare(name)
    platform.wait_ready(name)
    assert platform.pods(name) == []

    sent = time.monotonic()
    jobs = [Job("e2e.work", args=(name, n, 3.0)) for n in range(8)]
    platform.client().send_many(name, jobs)
    eventually(lambda: len(platform.pods(name)) >= 4, seconds=5, what="four pods asked for")
    asked = time.monotonic() - sent
    platform.wait_done(name)
    eventually(lambda: platform.pods(name) == [], seconds=60, what="no pods when empty")

    finished = platform.redis().lrange(f"celeriac:e2e:{name}:finished", 0, -1)
    started = platform.redis().lrange(f"celeriac:e2e:{name}:started", 0, -1)
    assert sorted(int(it) for it in finished) == list(range(8))
    assert len(started) == 8, f"some job ran twice (pods were asked for after {asked:.1f} s)"


def run_pod(platform: Platform, name: str, overrides: Mapping[str, object]) -> None:
    """Run a pod to its end."""
    resource = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **overrides}
    platform.kubectl("apply", "-f", "-", stdin=json.dumps(resource))
    eventually(
        lambda: platform.get("pod", name)["status"].get("phase") in ("Succeeded", "Failed"),
        seconds=90,
        what=f"pod {name} ends",
    )
