"""What to read when a test has failed on a machine that nobody can look into."""

from __future__ import annotations

from collections.abc import Iterator

from tests.e2e.kubernetes.harness import Platform

_LINES = "--tail=80"


def sections(platform: Platform, queue: str) -> Iterator[tuple[str, str]]:
    """Titles and texts: the cluster's objects and events, the operator's logs, the queue's workers' logs."""

    def said(*args: str) -> str:
        return platform.kubectl(*args, check=False)

    yield "objects", said("get", "mq,deployments,pods,leases", "-A", "-o", "wide")
    if queue:
        yield f"status of {queue}", said("get", "mq", queue, "-o", "yaml")
    events = said("get", "events", "-A", "--sort-by=.lastTimestamp").splitlines()
    yield "events", "\n".join(events[-60:])
    operator = "app.kubernetes.io/component=operator"
    for pod in said("get", "pods", "-l", operator, "-o", "name").split():
        yield f"{pod} before", said("logs", pod, "--previous", _LINES)
        yield f"{pod}", said("logs", pod, _LINES)
    if queue:
        workers = said("get", "pods", "-l", f"celeriac.dev/queue={queue}", "-o", "name").split()
        for pod in workers[:3]:
            yield f"{pod} before", said("logs", pod, "--previous", _LINES)
            yield f"{pod}", said("logs", pod, _LINES)
