"""Where the tests run: a cluster of their own, or the user's (E2E_KUBECONFIG)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Thread
from typing import IO, Any, Protocol

from tests.cluster import programs
from tests.cluster.cluster import Cluster


class Site(Protocol):
    """A Kubernetes cluster as these tests need it."""

    kubeconfig: Path
    own: Cluster | None
    """The cluster whose processes tests may stop; None where they may not."""

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return what it prints. Raises RuntimeError."""
        ...

    def address(self, namespace: str, service: str, port: int) -> tuple[str, int]:
        """Where a service can be reached from this process."""
        ...

    def entered(self) -> AbstractContextManager[None]:
        """Put the calling thread where the services can be reached."""
        ...


class OwnSite:
    """A cluster that tests/cluster has started on this machine."""

    def __init__(self, cluster: Cluster) -> None:
        self.own: Cluster | None = cluster
        self.kubeconfig = cluster.kubeconfig
        self._cluster = cluster
        self._addresses: dict[tuple[str, str], str] = {}

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        return self._cluster.kubectl(*args, stdin=stdin, check=check)

    def address(self, namespace: str, service: str, port: int) -> tuple[str, int]:
        if (namespace, service) not in self._addresses:
            found: Any = self._cluster.get("service", "-n", namespace, service)
            self._addresses[namespace, service] = found["spec"]["clusterIP"]
        return self._addresses[namespace, service], port

    @contextmanager
    def entered(self) -> Iterator[None]:
        with self._cluster.namespace.entered():
            yield


class UserSite:
    """Any other cluster: its services are reached through `kubectl port-forward`."""

    def __init__(self, kubeconfig: Path) -> None:
        self.own: Cluster | None = None
        self.kubeconfig = kubeconfig
        self._forwards: dict[tuple[str, str, int], tuple[subprocess.Popen[str], int]] = {}

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        done = subprocess.run(
            [program("kubectl"), "--kubeconfig", self.kubeconfig, *args],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(args)}: {done.stderr.strip() or done.stdout}")
        return done.stdout

    def address(self, namespace: str, service: str, port: int) -> tuple[str, int]:
        wanted = (namespace, service, port)
        process, local = self._forwards.get(wanted, (None, 0))
        if process is None or process.poll() is not None:
            process, local = self._forward(*wanted)
            self._forwards[wanted] = (process, local)
        return "127.0.0.1", local

    def entered(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        """End all port-forwards."""
        for process, _ in self._forwards.values():
            process.terminate()
            process.wait()

    def _forward(
        self, namespace: str, service: str, port: int
    ) -> tuple[subprocess.Popen[str], int]:
        command = [str(program("kubectl")), "--kubeconfig", str(self.kubeconfig), "-n", namespace]
        command += ["port-forward", f"service/{service}", f":{port}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        if not found:
            process.kill()
            raise RuntimeError(f"cannot forward to {service}: {line or 'nothing said'}")
        # It says a line for each connection, and would stop when nobody takes them.
        Thread(target=_drain, args=(process.stdout,), daemon=True).start()
        return process, int(found[1])


def _drain(pipe: IO[str]) -> None:
    with pipe:
        deque(pipe, maxlen=0)


def helm(site: Site, namespace: str, *args: str, cache: Path) -> str:
    """Run helm in a namespace, and return what it prints."""
    done = subprocess.run(
        [program("helm"), "--kubeconfig", site.kubeconfig, "-n", namespace, *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HELM_CACHE_HOME": str(cache)},
    )
    assert done.returncode == 0, f"helm {' '.join(args)}: {done.stderr}{done.stdout}"
    return done.stdout


def get(site: Site, *args: str) -> Any:
    """Run `kubectl get ... -o json`."""
    return json.loads(site.kubectl("get", *args, "-o", "json"))


def program(name: str) -> Path:
    """kubectl or helm: the user's own for the user's cluster, ours for ours."""
    found = shutil.which(name) if os.environ.get("E2E_KUBECONFIG") else None
    return Path(found) if found else programs.clients() / name
