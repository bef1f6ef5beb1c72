"""Lets node drains take one worker of a queue at a time."""

from __future__ import annotations

from celeriac.spec.queue import MessageQueue
from celeriac_operator.resources import Object, names


def disruption_budget(queue: MessageQueue) -> Object:
    """Build the PodDisruptionBudget."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.metadata(queue),
        "spec": {
            "maxUnavailable": 1,
            # A worker that is not ready holds nothing that waiting would save.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.selector(queue)},
        },
    }
