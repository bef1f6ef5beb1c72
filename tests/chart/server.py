"""An API server for charts: namespaces as strict as can be, helm and kubectl, nothing that runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.chart.charts import CHARTS, NAMESPACE, Helm, Object
from tests.cluster import programs
from tests.cluster.cluster import Cluster

#: Another team's namespaces.
OTHERS = ("team-a", "team-b")


@dataclass(frozen=True)
class Server:
    """The API server."""

    cluster: Cluster
    helm: Helm
    folder: Path

    @classmethod
    def prepared(cls, cluster: Cluster, helm: Helm, folder: Path) -> Server:
        """Make the namespaces, and install the resource's chart."""
        inside = Helm(
            (
                *cluster.namespace.command,
                *helm.command,
                f"--kubeconfig={cluster.kubeconfig}",
                f"--namespace={NAMESPACE}",
            ),
            helm.environment,
        )
        server = cls(cluster, inside, folder)
        for name in (NAMESPACE, *OTHERS):
            server.make_namespace(name)
        server.helm.run("install", "celeriac-crds", CHARTS / "celeriac-crds")
        crd = "crd/messagequeues.celeriac.dev"
        cluster.kubectl("wait", "--for=condition=Established", crd)
        return server

    def make_namespace(self, name: str) -> None:
        """Make a namespace that takes restricted pods only, and warns of anything else."""
        standard = {
            f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")
        }
        self.cluster.kubectl(
            "create",
            "-f",
            "-",
            stdin=json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": name, "labels": standard},
                }
            ),
        )
        # No controller runs that would make it.
        self.cluster.kubectl("-n", name, "create", "serviceaccount", "default")

    def try_out(self, rendering: Iterable[Object]) -> str:
        """Have the server judge objects without keeping them; return complaints and warnings."""
        done = subprocess.run(
            [
                *self.cluster.namespace.command,
                programs.clients() / "kubectl",
                f"--kubeconfig={self.cluster.kubeconfig}",
                *("apply", "--dry-run=server", "--validate=strict", "-f", "-"),
            ],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*rendering]}),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr

    def may(self, account: str, verb: str, what: str, *, namespace: str = NAMESPACE) -> bool:
        """Whether a ServiceAccount of our namespace may do something."""
        user = f"system:serviceaccount:{NAMESPACE}:{account}"
        answer = self.cluster.kubectl(
            *("auth", "can-i", verb, what, f"--as={user}", "-n", namespace), check=False
        )
        return answer.strip() == "yes"
