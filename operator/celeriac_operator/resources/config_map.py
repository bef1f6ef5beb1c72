"""The workers' options, as environment variables that `celeriac worker` reads."""

from __future__ import annotations

from celeriac.spec.queue import MessageQueue
from celeriac_operator.resources import Object, names

HTTP_PORT = 8080


def config_map(queue: MessageQueue) -> Object:
    """Build the ConfigMap with a worker's options."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": names.metadata(queue, names.WORKER_SUFFIX),
        "data": options(queue),
    }


def options(queue: MessageQueue) -> dict[str, str]:
    """The options of `celeriac worker`, by environment variable."""
    worker = queue.spec.worker
    return {
        "CELERIAC_WORKER_APP": worker.app,
        "CELERIAC_WORKER_QUEUE": queue.queue_name,
        "CELERIAC_WORKER_POOL": worker.pool.lower(),
        "CELERIAC_WORKER_CONCURRENCY": str(worker.slots),
        "CELERIAC_WORKER_SOFT_TIMEOUT": str(worker.soft_timeout_seconds),
        "CELERIAC_WORKER_TIMEOUT": str(worker.timeout_seconds),
        "CELERIAC_WORKER_DRAIN": str(worker.drain_seconds),
        "CELERIAC_WORKER_LEASE": str(worker.lease_seconds),
        "CELERIAC_WORKER_HTTP_HOST": "0.0.0.0",  # noqa: S104  # the kubelet's probes come from outside the pod
        "CELERIAC_WORKER_HTTP_PORT": str(HTTP_PORT),
    }
