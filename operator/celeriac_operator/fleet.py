"""What a Deployment, its pods and the broker together say of a queue's workers. Pure.

A worker's name on the broker is ``POD:START``: a container that was restarted is another worker than the one
that died in the same pod, and the start (seconds since 1970) tells which of them is dead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from celeriac.backend.base import Fleet, Obstacle
from celeriac_operator.seen import HOPELESS, HOPELESS_FAILURES, DeploymentSeen, PodSeen


def fleet_of(
    deployment: DeploymentSeen | None,
    pods: Sequence[PodSeen],
    *,
    heard: Collection[str],
    gone: Collection[str],
    obstacle: Obstacle | None = None,
) -> Fleet:
    """Count the workers. ``heard`` are those that the broker knows, ``gone`` pods that have ended."""
    living = [pod for pod in pods if not pod.deleting and not pod.over]
    waiting = [pod for pod in living if pod.waiting and not pod.ready]
    ready = [pod for pod in living if pod.ready]
    starting = [pod for pod in living if not pod.ready and not pod.waiting]
    template = deployment.template if deployment else ""
    unready = [pod for pod in living if not pod.ready]
    failures, failure = _worst(deployment, unready)
    return Fleet(
        wanted=deployment.replicas if deployment and not deployment.deleting else 0,
        starting=len(starting),
        ready=len(ready),
        waiting=len(waiting),
        draining=sum(pod.deleting for pod in pods),
        outdated=sum(pod.template != template for pod in (*ready, *starting)),
        failures=failures,
        cannot_start=failures == HOPELESS_FAILURES and _cannot_start(deployment, unready),
        last_failure=failure or _last(living),
        lost=lost(pods, heard=heard, gone=gone),
        obstacle=obstacle,
    )


def lost(
    pods: Iterable[PodSeen], *, heard: Iterable[str], gone: Collection[str]
) -> tuple[str, ...]:
    """Workers that the broker knows and that are surely dead.

    A pod that nobody here has ever seen proves nothing: it may be another cluster's, or so new that its news
    has not arrived. Nor does one that was removed by force. Their leases will tell.
    """
    since = {pod.name: pod.since for pod in pods}
    found = []
    for worker in heard:
        pod, began = started(worker)
        if began is not None and (pod in gone or began < since.get(pod, 0.0)):
            found.append(worker)
    return tuple(sorted(found))


def held(heard: Mapping[str, int]) -> dict[str, int]:
    """How many messages each pod holds."""
    found: dict[str, int] = {}
    for worker, count in heard.items():
        pod, _ = started(worker)
        found[pod] = found.get(pod, 0) + count
    return found


def started(worker: str) -> tuple[str, int | None]:
    """The pod of a worker, and when it began; None when the name is none of ours."""
    pod, _, began = worker.rpartition(":")
    return (pod, int(began)) if pod and began.isdigit() else (worker, None)


def costs(pods: Iterable[PodSeen], holding: Mapping[str, int]) -> dict[str, int]:
    """The deletion costs to write before a scale-down, so that whoever holds least goes first."""
    wanted = {pod.name: holding.get(pod.name, 0) for pod in pods if not pod.deleting}
    return {
        pod.name: wanted[pod.name] for pod in pods if wanted.get(pod.name, pod.cost) != pod.cost
    }


def _worst(deployment: DeploymentSeen | None, unready: Sequence[PodSeen]) -> tuple[int, str]:
    if deployment is not None and deployment.refusal:
        return HOPELESS_FAILURES, deployment.refusal
    worst, text = 0, ""
    for pod in unready:
        failures = max(HOPELESS_FAILURES if pod.waiting in HOPELESS else 0, pod.restarts)
        if failures > worst:
            worst, text = failures, pod.failure
    return worst, text


def _cannot_start(deployment: DeploymentSeen | None, unready: Sequence[PodSeen]) -> bool:
    refused = deployment is not None and bool(deployment.refusal)
    return refused or any(pod.waiting in HOPELESS for pod in unready)


def _last(living: Iterable[PodSeen]) -> str:
    return next((pod.failure for pod in living if pod.failure), "")
