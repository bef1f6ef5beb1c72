"""A real KEDA beside the cluster: its operator and metrics adapter as plain processes in the namespace.

Compiled from the Go modules of keda-modules/go.mod (minutes once, then cached). Its webhooks are not needed.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster import node, pki
from tests.cluster.cache import cached
from tests.cluster.namespace import DNS_IP, NODE_IP

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

VERSION = "v2.21.0"
MODULE = "github.com/kedacore/keda/v2"
NAMESPACE = "keda"
SERVICE = "keda-metrics-apiserver"
SERVICE_IP = "10.96.0.60"
_PORT = 16443
_GRPC = "127.0.0.1:19666"
#: Brokers have names that only the cluster's name server knows.
_RESOLVING = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"']


def programs() -> Path:
    """The folder of KEDA's programs and CRDs, built when they are not cached."""
    return cached(f"keda-{VERSION}", _build)


def start(cluster: Cluster) -> None:
    """Start KEDA, and wait until its external metrics are served."""
    folder = programs()
    # On the server: client-side apply cannot carry that much in an annotation.
    cluster.kubectl("apply", "--server-side", "-f", str(folder / "crds"))
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(space))
    ports: list[dict[str, object]] = [
        {"name": "https", "port": 443, "targetPort": _PORT, "protocol": "TCP"}
    ]
    node.expose(cluster, name=SERVICE, namespace=NAMESPACE, ip=SERVICE_IP, ports=ports)
    certificates = _certificates(cluster)
    env = {
        "WATCH_NAMESPACE": "",
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        "POD_NAMESPACE": NAMESPACE,
    }
    resolver = certificates / "resolv.conf"
    resolver.write_text(f"nameserver {DNS_IP}\n")
    cluster.processes.start(
        "keda-operator",
        [
            *_RESOLVING,
            resolver,
            folder / "keda-operator",
            f"--kubeconfig={cluster.kubeconfig}",
            "--leader-elect=false",
            "--enable-cert-rotation=false",
            f"--cert-dir={certificates}",
            f"--metrics-service-bind-address={_GRPC}",
            "--metrics-bind-address=127.0.0.1:18080",
            "--health-probe-bind-address=127.0.0.1:18081",
        ],
        env=env,
    )
    cluster.processes.start(
        "keda-adapter",
        [
            folder / "keda-adapter",
            f"--kubeconfig={cluster.kubeconfig}",
            f"--lister-kubeconfig={cluster.kubeconfig}",
            f"--authentication-kubeconfig={cluster.kubeconfig}",
            f"--authorization-kubeconfig={cluster.kubeconfig}",
            f"--bind-address={NODE_IP}",
            f"--secure-port={_PORT}",
            f"--cert-dir={certificates}",
            f"--tls-cert-file={certificates}/tls.crt",
            f"--tls-private-key-file={certificates}/tls.key",
            f"--metrics-service-address={_GRPC}",
            "--port=18082",
        ],
        env=env,
    )
    for document in _registration(certificates):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(document))
    cluster.processes.wait_until("keda-adapter", lambda: _available(cluster), seconds=60)


def stop(cluster: Cluster) -> None:
    """Stop KEDA, and take its registration back."""
    cluster.kubectl("delete", "apiservice", "v1beta1.external.metrics.k8s.io", check=False)
    # The adapter may ignore SIGTERM for seconds once the operator is gone.
    cluster.processes.stop("keda-adapter", seconds=2)
    cluster.processes.stop("keda-operator", seconds=5)


def _available(cluster: Cluster) -> bool:
    wanted = "{.status.conditions[?(@.type=='Available')].status}"
    name = "v1beta1.external.metrics.k8s.io"
    return cluster.kubectl("get", "apiservice", name, "-o", f"jsonpath={wanted}") == "True"


def _certificates(cluster: Cluster) -> Path:
    folder = cluster.folder / "keda"
    folder.mkdir(exist_ok=True)
    authority = pki.Authority.new("ca", folder)
    names = ["localhost", f"{SERVICE}.{NAMESPACE}.svc"]
    authority.sign("tls", folder, ips=["127.0.0.1", NODE_IP, SERVICE_IP], dns=names)
    return folder


def _registration(certificates: Path) -> list[dict[str, Any]]:
    bundle = base64.b64encode((certificates / "ca.crt").read_bytes()).decode()
    role = "celeriac-tests-external-metrics"
    return [
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
            "spec": {
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": bundle,
                "service": {"name": SERVICE, "namespace": NAMESPACE},
            },
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role},
            "rules": [
                {"apiGroups": ["external.metrics.k8s.io"], "resources": ["*"], "verbs": ["*"]}
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": role,
            },
            "subjects": [
                {
                    "kind": "ServiceAccount",
                    "name": "horizontal-pod-autoscaler",
                    "namespace": "kube-system",
                }
            ],
        },
    ]


def _build(target: Path) -> None:
    source = Path(__file__).parent / "keda-modules"
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    flags = f"-s -w -X {MODULE}/version.Version={VERSION.removeprefix('v')}"
    for program in ("operator", "adapter"):
        print(f"building keda-{program} {VERSION} ...", flush=True)
        output = target / f"keda-{program}"
        subprocess.run(
            [
                "go",
                "build",
                "-trimpath",
                "-ldflags",
                flags,
                "-o",
                output,
                f"{MODULE}/cmd/{program}",
            ],
            cwd=source,
            env=env,
            check=True,
        )
    listed = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", MODULE],
        cwd=source,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    shutil.copytree(Path(listed.stdout.strip()) / "config/crd/bases", target / "crds")
    for crd in (target / "crds").iterdir():
        crd.chmod(0o644)
