"""The operator as a real process, in the cluster's network, with its own account and only its rights."""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

import celeriac_operator
from tests.cluster.cluster import SERVER, Cluster

NAMESPACE = "celeriac"
ACCOUNT = "operator"
RULES = Path(celeriac_operator.__file__).parent / "rbac.yaml"

T = TypeVar("T")


def prepare(cluster: Cluster, *, only: str = "", name: str = ACCOUNT) -> Path:
    """Make the operator's namespace, account and role; return a kubeconfig of that account.

    With ``only``, its rights are those in this one namespace, and not in the cluster.
    """
    rules = yaml.safe_load(RULES.read_text())
    meta = {"name": name, "namespace": NAMESPACE}
    bound = {"name": name, **({"namespace": only} if only else {})}
    scope = "" if only else "Cluster"
    own = [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "create", "update", "patch"],
        }
    ]
    account = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
    rbac = "rbac.authorization.k8s.io"
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{rbac}/v1", "kind": f"{scope}Role", "metadata": bound, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": f"{scope}RoleBinding",
            "metadata": bound,
            "roleRef": {"apiGroup": rbac, "kind": f"{scope}Role", "name": name},
            "subjects": [account],
        },
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": own},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [account],
        },
    ]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("apply", "-f", "-", stdin=listed)
    token = cluster.kubectl("create", "token", name, "-n", NAMESPACE, "--duration=24h").strip()
    path = cluster.folder / f"{name}.kubeconfig"
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = SERVER
    document["users"][0]["user"] = {"token": token}
    path.write_text(yaml.safe_dump(document))
    return path


class OperatorProcess:
    """One replica."""

    def __init__(
        self,
        cluster: Cluster,
        kubeconfig: Path,
        *,
        name: str = "operator",
        port: int,
        **settings: str,
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.port = port
        self._env = {
            "KUBECONFIG": str(kubeconfig),
            "CELERIAC_OPERATOR_NAMESPACE": NAMESPACE,
            "CELERIAC_OPERATOR_IDENTITY": name,
            "CELERIAC_OPERATOR_HTTP_HOST": "127.0.0.1",
            "CELERIAC_OPERATOR_HTTP_PORT": str(port),
            "CELERIAC_OPERATOR_IMAGE": "fake:1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **{f"CELERIAC_OPERATOR_{key.upper()}": value for key, value in settings.items()},
        }

    def start(self) -> None:
        """Start it; it may have been started before."""
        self.stop()
        command = [sys.executable, "-m", "celeriac_operator.main"]
        self.cluster.processes.start(self.name, command, env=self._env)

    def stop(self, *, kill: bool = False) -> None:
        """End it."""
        self.cluster.processes.stop(self.name, kill=kill)

    @property
    def pid(self) -> int:
        """Its process."""
        return self.cluster.processes.pid(self.name)

    @property
    def log(self) -> str:
        """Everything it has said."""
        return (self.cluster.folder / f"{self.name}.log").read_text(errors="replace")

    def get(self, path: str, *, timeout_s: float = 5) -> tuple[int, str]:
        """Ask its HTTP endpoint; 0 when nobody answers."""
        with self.cluster.namespace.entered():
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{self.port}{path}", timeout=timeout_s
                ) as answer:
                    return int(answer.status), answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
            except (OSError, http.client.HTTPException) as error:  # it may end in mid-answer
                return 0, str(error)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        _, text = self.get("/metrics")
        total = 0.0
        for line in text.splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name:
                has = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                if labels.items() <= has.items():
                    total += float(found[3])
        return total

    def leads(self) -> bool:
        """Whether it holds the Lease, and has read the cluster."""
        return self.metric("mq_leader") == 1 and self.get("/readyz")[0] == 200


def until(what: Callable[[], T], *, seconds: float = 20, every: float = 0.1) -> T:
    """Wait until ``what()`` is true; return it. The last error or value is told when it never is."""
    deadline = time.monotonic() + seconds
    while True:
        trouble: object
        try:
            if found := what():
                return found
            trouble = found
        except (RuntimeError, LookupError, OSError, AssertionError) as error:
            trouble = error
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s; last: {trouble!r}"
        time.sleep(every)
