"""Closes workers to everything but probes and scrapes; where they may connect to is the app's affair."""

from __future__ import annotations

from celeriac.spec.queue import MessageQueue
from celeriac_operator.resources import Object, names


def network_policy(queue: MessageQueue) -> Object:
    """Build the NetworkPolicy: connections come in on the HTTP port only."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": names.metadata(queue),
        "spec": {
            "podSelector": {"matchLabels": names.selector(queue)},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": "http", "protocol": "TCP"}]}],
        },
    }
