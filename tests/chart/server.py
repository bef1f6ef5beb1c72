"""An API server for charts: namespaces as strict as can be, helm and kubectl, nothing that runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.chart.charts import CHARTS, NAMESPACE, Helm, Object
from tests.cluster import programs
from tests.cluster.cluster import Cluster

#: Another team's namespaces.
OTHERS = ("team-a", "team-b")


class Question(NamedTuple):
    """May somebody do this?"""

    verb: str
    what: str
    """leases.coordination.k8s.io, deployments.apps/scale, pods"""
    namespace: str
    name: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """As a SubjectAccessReview spells it."""
        kind, _, sub = self.what.partition("/")
        resource, _, group = kind.partition(".")
        return {
            "verb": self.verb,
            "group": group,
            "resource": resource,
            "subresource": sub,
            "namespace": self.namespace,
            "name": self.name,
        }


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
        cluster.wait_until_defined("messagequeues.celeriac.dev")
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

    @contextmanager
    def applied(self, rendering: Iterable[Object]) -> Iterator[None]:
        """Have objects on the server for the length of a ``with`` block."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*rendering]})
        self.cluster.kubectl("create", "-f", "-", stdin=text)
        try:
            yield
        finally:
            self.cluster.kubectl("delete", "--wait=false", "-f", "-", stdin=text)

    def allowed(self, account: str, questions: Sequence[Question]) -> list[Question]:
        """Those things that a ServiceAccount of our namespace may do, asked all at once."""
        reviews = [
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": f"system:serviceaccount:{NAMESPACE}:{account}",
                    "resourceAttributes": it.attributes,
                },
            }
            for it in questions
        ]
        request = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
        said = "jsonpath={.status.allowed} "
        answers = self.cluster.kubectl("create", "-f", "-", "-o", said, stdin=request).split()
        return [
            question
            for question, answer in zip(questions, answers, strict=True)
            if answer == "true"
        ]
