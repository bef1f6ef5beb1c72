"""The workers' options, as environment variables that `celeriac worker` reads."""

from __future__ import annotations

from celeriac.backend.command import worker_options
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
    declared = {
        f"CELERIAC_WORKER_{name.upper().replace('-', '_')}": value
        for name, value in worker_options(queue).items()
    }
    return {
        **declared,
        "CELERIAC_WORKER_HTTP_HOST": "0.0.0.0",  # noqa: S104  # the kubelet's probes come from outside the pod
        "CELERIAC_WORKER_HTTP_PORT": str(HTTP_PORT),
    }
