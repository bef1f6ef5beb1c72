"""Hands a queue's number of workers to KEDA: one trigger for each of its streams, and their sum.

A stream's length is what is ready and leased together, since settled entries are deleted, so KEDA counts
what runs as well as what waits. Messages that are delayed are not in it until they are due.
"""

from __future__ import annotations

from celeriac.broker.connection import BrokerURL
from celeriac.broker.keys import QueueKeys
from celeriac.spec.queue import MessageQueue
from celeriac_operator.resources import Object, broker_secret, names

STREAMS = ("high", "normal", "low", "isolated")
#: Seconds between two looks of KEDA at the queue.
POLLING_S = 5


def scaled_object(queue: MessageQueue, *, url: BrokerURL, authentication: bool = False) -> Object:
    """Build the ScaledObject; ``authentication`` says that a TriggerAuthentication goes with it."""
    scaling = queue.spec.autoscaling
    keys = QueueKeys.of(queue.queue_name, prefix=url.prefix)
    least = min(scaling.max_replicas, max(scaling.min_replicas, queue.spec.replicas))
    reference = {"authenticationRef": {"name": queue.name}} if authentication else {}
    meta = names.metadata(queue)
    if queue.spec.paused:
        meta["annotations"] = {"autoscaling.keda.sh/paused": "true"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": meta,
        "spec": {
            "scaleTargetRef": {"name": queue.name},
            "pollingInterval": POLLING_S,
            "cooldownPeriod": scaling.scale_down_delay_seconds,
            "minReplicaCount": least,
            "maxReplicaCount": scaling.max_replicas,
            # With the broker unreadable the number of workers stays what it is.
            "fallback": {
                "failureThreshold": 3,
                "replicas": max(1, least),
                "behavior": "currentReplicas",
            },
            "advanced": {
                # Several triggers alone would give the greatest of them, not all that there is to do.
                "scalingModifiers": {
                    "formula": " + ".join(STREAMS),
                    "target": str(queue.spec.worker.slots),
                    "metricType": "AverageValue",
                },
                "horizontalPodAutoscalerConfig": {"behavior": _behaviour(queue)},
            },
            "triggers": [
                {**_trigger(stream, f"{keys.base}{stream}", queue, url), **reference}
                for stream in STREAMS
            ],
        },
    }


def trigger_authentication(queue: MessageQueue, *, url: BrokerURL, ca: str = "") -> Object | None:
    """Build the TriggerAuthentication, for a broker with secrets; its Secret holds the parts."""
    parts = broker_secret.parts(url, ca=ca)
    wanted = {
        "password": "password",
        "username": "username",
        "sentinelUsername": "sentinelUsername",
        "sentinelPassword": "sentinelPassword",
        "ca": broker_secret.CA,
    }
    secret = queue.name + names.BROKER_SUFFIX
    references = [
        {"parameter": parameter, "name": secret, "key": key}
        for parameter, key in wanted.items()
        if parts.get(key)
    ]
    if not references:
        return None
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": names.metadata(queue),
        "spec": {"secretTargetRef": references},
    }


def _behaviour(queue: MessageQueue) -> Object:
    """Up at once and all the way, down after the declared delay, and exactly: no 10 % of tolerance."""
    delay = queue.spec.autoscaling.scale_down_delay_seconds
    policies = [{"type": "Pods", "value": 1000, "periodSeconds": 1}]
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": policies, "tolerance": "0"},
        "scaleDown": {
            "stabilizationWindowSeconds": delay,
            "policies": policies,
            "tolerance": "0",
        },
    }


def _trigger(name: str, stream: str, queue: MessageQueue, url: BrokerURL) -> Object:
    kinds = {
        "server": "redis-streams",
        "sentinel": "redis-sentinel-streams",
        "cluster": "redis-cluster-streams",
    }
    addresses = ",".join(f"{host}:{port}" for host, port in url.hosts)
    trigger: Object = {
        "type": kinds[url.kind],
        "name": name,
        "metadata": {
            "stream": stream,
            "streamLength": str(queue.spec.worker.slots),
            **({} if url.kind == "cluster" else {"databaseIndex": str(url.db)}),
            "enableTLS": "true" if url.tls else "false",
            ("address" if url.kind == "server" else "addresses"): addresses,
        },
    }
    if url.tls and url.options.get("ssl_cert_reqs") == "none":
        trigger["metadata"]["unsafeSsl"] = "true"
    if url.kind == "sentinel" and url.master_name:
        trigger["metadata"]["sentinelMaster"] = url.master_name
    return trigger
