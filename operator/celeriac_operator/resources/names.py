"""Names and labels of what the operator makes: parts of the API, never changed."""

from __future__ import annotations

from typing import Any

from celeriac.spec.queue import MessageQueue

GROUP = "celeriac.dev"
VERSION = "v1alpha1"
PLURAL = "messagequeues"

#: Field manager of everything that is declared; ours alone, so that forced applies take from nobody.
MANAGER = "celeriac-operator"
#: Field manager of the numbers of replicas, which others may take over through /scale.
SCALER = "celeriac-operator-scale"

QUEUE_LABEL = "celeriac.dev/queue"
#: Digest of what an object was rendered as: equal means that there is nothing to apply.
RENDERED = "celeriac.dev/rendered"
#: Digest of the pod template alone: tells pods of older ones.
TEMPLATE = "celeriac.dev/template"
#: On a MessageQueue: the operator keeps its hands off while it is "true".
PAUSED = "celeriac.dev/paused"
PURGE_FINALIZER = "celeriac.dev/purge"
#: On a Deployment: the autoscaling mode that it was applied for, which says who writes its replicas.
MODE = "celeriac.dev/autoscaling"
#: Kubernetes' own: of the pods of a Deployment, the cheapest goes first.
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

#: What the names of a queue's ConfigMap and of its Secret end with; other objects have the queue's own.
WORKER_SUFFIX = "-worker"
BROKER_SUFFIX = "-broker"


def labels(queue: MessageQueue) -> dict[str, str]:
    """Labels of every object of a queue."""
    return {
        "app.kubernetes.io/name": "celeriac-worker",
        "app.kubernetes.io/instance": queue.name,
        "app.kubernetes.io/managed-by": "celeriac-operator",
        QUEUE_LABEL: queue.name,
    }


def selector(queue: MessageQueue) -> dict[str, str]:
    """Labels that select the queue's pods; immutable in a Deployment."""
    return {QUEUE_LABEL: queue.name}


def metadata(queue: MessageQueue, suffix: str = "") -> dict[str, Any]:
    """Metadata of an object of a queue: it goes when the queue goes."""
    return {
        "name": queue.name + suffix,
        "namespace": queue.metadata.namespace,
        "labels": labels(queue),
        "ownerReferences": [
            {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "MessageQueue",
                "name": queue.name,
                "uid": queue.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }
