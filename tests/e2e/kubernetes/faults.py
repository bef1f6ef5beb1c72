"""What tests do: kill or freeze processes in containers, take the broker or the operators away."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.e2e.kubernetes.harness import VALKEY, Object, Platform
from tests.e2e.kubernetes.waiting import eventually


def pid(cluster: Cluster, pod: Object) -> int:
    """The first process of a pod's only container, as this machine numbers it."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    for line in images.ctr(cluster, "tasks", "ls").stdout.splitlines():
        task, number, *_ = line.split()
        if task == container:
            return int(number)
    raise LookupError(f"no process of {pod['metadata']['name']}")


def kill(cluster: Cluster, pod: Object) -> None:
    """Kill a pod's process, without a word of warning; nothing happens when it is dead already."""
    with contextlib.suppress(LookupError, ProcessLookupError):
        os.kill(pid(cluster, pod), signal.SIGKILL)


@contextmanager
def frozen(cluster: Cluster, pod: Object) -> Iterator[None]:
    """Let a pod's process stand still for a block: it holds its connections and says nothing."""
    process = pid(cluster, pod)
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@contextmanager
def no_broker(platform: Platform) -> Iterator[None]:
    """Take the broker away for a block; its data stay."""
    platform.kubectl("scale", "statefulset", VALKEY, "--replicas=0")
    try:
        eventually(lambda: not platform.exists("pod", f"{VALKEY}-0"), seconds=30, what="no broker")
        yield
    finally:
        platform.kubectl("scale", "statefulset", VALKEY, "--replicas=1")
        platform.kubectl("rollout", "status", f"statefulset/{VALKEY}", "--timeout=60s")


@contextmanager
def no_operator(platform: Platform) -> Iterator[None]:
    """Take both operators away for a block."""
    platform.kubectl("scale", "deployment", "celeriac", "--replicas=0")
    try:
        eventually(lambda: not platform.operators(), seconds=30, what="no operator")
        yield
    finally:
        platform.kubectl("scale", "deployment", "celeriac", "--replicas=2")
