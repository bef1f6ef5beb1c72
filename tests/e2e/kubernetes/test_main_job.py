"""The main job on a cluster: install three charts, send real jobs, see all of them done."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping

from tests.e2e.kubernetes.harness import MESSAGING_IMAGE, ROOT, TAG, Platform
from tests.e2e.kubernetes.waiting import eventually

QUEUES = (
    "message-delivery",
    "message-notification",
    "message-indexing",
    "message-encryption",
    "batch-message-sending",
    "message-cleanup",
)
JOBS = 2000


def test_six_queues_run_two_thousand_real_jobs(platform: Platform) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    settings = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "messaging-settings"},
        "stringData": {"MESSAGING_KEYS": f"k1={key}"},
    }
    platform.apply(settings)
    platform.helm(
        "upgrade",
        "--install",
        "messaging",
        str(ROOT / "charts/messaging"),
        f"--set=image.repository={MESSAGING_IMAGE},image.tag={TAG},secretName=messaging-settings",
    )
    for queue in QUEUES:
        platform.wait_ready(queue)

    from_inside = f"""
from celeriac import Client
from celeriac_messaging.payloads import Encryption, Indexing
from celeriac_messaging.service import MessageQueueService
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


def run_pod(platform: Platform, name: str, overrides: Mapping[str, object]) -> None:
    """Run a pod to its end."""
    resource = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **overrides}
    platform.kubectl("apply", "-f", "-", stdin=json.dumps(resource))
    eventually(
        lambda: platform.get("pod", name)["status"].get("phase") in ("Succeeded", "Failed"),
        seconds=90,
        what=f"pod {name} ends",
    )
