"""Hands a queue's number of workers to KEDA: one trigger for each of its streams.

A stream's length is what is ready and leased together, since settled entries are deleted, so KEDA counts
what runs as well as what waits. Messages that are delayed are not in it until they are due.
"""

from __future__ import annotations

from celeriac.broker.connection import BrokerURL
from celeriac.broker.keys import QueueKeys
from celeriac.spec.queue import MessageQueue
from celeriac_operator.resources import Object, broker_secret, names

STREAMS = 4


def scaled_object(queue: MessageQueue, *, url: BrokerURL) -> Object:
    """Build the ScaledObject."""
    scaling = queue.spec.autoscaling
    keys = QueueKeys.of(queue.queue_name, prefix=url.prefix).all[:STREAMS]
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": names.metadata(queue),
        "spec": {
            "scaleTargetRef": {"name": names.deployment_name(queue)},
            "pollingInterval": 5,
            "cooldownPeriod": scaling.scale_down_delay_seconds,
            "minReplicaCount": scaling.min_replicas,
            "maxReplicaCount": scaling.max_replicas,
            # With the broker unreadable the number of workers stays what it is.
            "fallback": {
                "failureThreshold": 3,
                "replicas": max(1, scaling.min_replicas),
                "behavior": "currentReplicas",
            },
            "advanced": {
                "horizontalPodAutoscalerConfig": {
                    "behavior": {
                        "scaleUp": {
                            "stabilizationWindowSeconds": 0,
                            "policies": [{"type": "Pods", "value": 1000, "periodSeconds": 1}],
                        },
                        "scaleDown": {
                            "stabilizationWindowSeconds": scaling.scale_down_delay_seconds
                        },
                    }
                }
            },
            "triggers": [_trigger(queue, key, url) for key in keys],
        },
    }


def trigger_authentication(queue: MessageQueue, *, url: BrokerURL) -> Object | None:
    """Build the TriggerAuthentication, for a broker with a password; its Secret holds the parts."""
    if url.password is None:
        return None
    given = {
        "password": url.password,
        "username": url.username,
        "sentinelPassword": url.options.get("sentinel_password"),
    }
    secret = queue.name + broker_secret.SUFFIX
    references = [
        {"parameter": part, "name": secret, "key": part} for part, value in given.items() if value
    ]
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": names.metadata(queue),
        "spec": {"secretTargetRef": references},
    }


def _trigger(queue: MessageQueue, stream: str, url: BrokerURL) -> Object:
    host, port = url.hosts[0]
    sentinel = url.kind == "sentinel"
    addresses = ",".join(f"{host}:{port}" for host, port in url.hosts)
    trigger: Object = {
        "type": "redis-sentinel-streams" if sentinel else "redis-streams",
        "metadata": {
            "stream": stream,
            "streamLength": str(queue.spec.worker.slots),
            "databaseIndex": str(url.db),
            "enableTLS": "true" if url.tls else "false",
            **({"addresses": addresses} if sentinel else {"address": f"{host}:{port}"}),
        },
    }
    if sentinel and url.master_name:
        trigger["metadata"]["sentinelMaster"] = url.master_name
    if url.password is not None:
        trigger["authenticationRef"] = {"name": queue.name}
    return trigger
