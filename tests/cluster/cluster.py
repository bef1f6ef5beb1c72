"""Starts and stops a cluster, or only its control plane.

The order of the end matters: pods, kubelet, kube-proxy, controllers, API server before etcd (it hangs
otherwise), containerd, its shims, mounts, namespaces, cgroups; and the kernel settings that the kubelet
changes are written back.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tests.cluster import node, pki, programs
from tests.cluster.namespace import NODE_IP, SERVICE_NETWORK, Namespace
from tests.cluster.processes import Processes, end_all_that_mention

#: Clusters of this machine, one folder each, so that `down` finds what a killed run left.
CLUSTERS = Path("/tmp/celeriac-clusters")
SERVER = f"https://{NODE_IP}:6443"

_AUDIT = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, verbs: [create, update, patch, delete]}
  - {level: None}
"""


class Cluster:
    """One cluster: its folder, its namespace, its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace = Namespace(f"celeriac-{folder.name}")
        self.processes = Processes(folder, self.namespace.command)
        self.kubeconfig = folder / "admin.kubeconfig"
        self.audit_log = folder / "audit.log"
        """Who has written what, a JSON object in each line."""

    @classmethod
    def new(cls) -> Cluster:
        """Make the folder of a cluster that belongs to this process."""
        # With its owner from the first moment on: another run may be sweeping.
        made = Path(tempfile.mkdtemp(prefix="celeriac-new-", dir=CLUSTERS.parent))
        made.chmod(0o755)
        (made / "owner").write_text(str(os.getpid()))
        CLUSTERS.mkdir(exist_ok=True)
        return cls(made.rename(CLUSTERS / uuid.uuid4().hex[:6]))

    # --- start ----------------------------------------------------------------------------------

    def start_control_plane(self) -> None:
        """Start etcd and the API server, and wait until it is ready (seconds)."""
        self.namespace.create()
        self._write_credentials()
        self.start_etcd()
        self.start_api_server()

    def start_etcd(self) -> None:
        """Start etcd."""
        listen = "http://127.0.0.1:2379"
        self.processes.start(
            "etcd",
            [
                "etcd",
                "--name=tests",
                f"--data-dir={self.folder}/etcd",
                f"--listen-client-urls={listen}",
                f"--advertise-client-urls={listen}",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync",
            ],
        )

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready."""
        folder = self.folder
        (folder / "audit.yaml").write_text(_AUDIT)
        requestheader = [
            "--requestheader-client-ca-file=" + f"{folder}/front-ca.crt",
            f"--proxy-client-cert-file={folder}/front-proxy-client.crt",
            f"--proxy-client-key-file={folder}/front-proxy-client.key",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        ]
        self.processes.start(
            "kube-apiserver",
            [
                programs.kubernetes() / "kube-apiserver",
                "--etcd-servers=http://127.0.0.1:2379",
                f"--advertise-address={NODE_IP}",
                "--secure-port=6443",
                f"--tls-cert-file={folder}/kube-apiserver.crt",
                f"--tls-private-key-file={folder}/kube-apiserver.key",
                f"--client-ca-file={folder}/ca.crt",
                f"--token-auth-file={folder}/tokens.csv",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={folder}/sa.pub",
                f"--service-account-signing-key-file={folder}/sa.key",
                f"--service-cluster-ip-range={SERVICE_NETWORK}",
                "--authorization-mode=Node,RBAC",
                # The second is off by default, and on where OpenShift runs.
                "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
                "--allow-privileged=true",
                "--kubelet-preferred-address-types=InternalIP",
                "--enable-aggregator-routing=true",
                f"--cert-dir={folder}/apiserver",
                f"--audit-policy-file={folder}/audit.yaml",
                f"--audit-log-path={self.audit_log}",
                *requestheader,
            ],
        )
        self.processes.wait_until("kube-apiserver", self.api_is_ready, seconds=60)

    def start_controllers(self) -> None:
        """Start the controller manager and the scheduler, or start them anew.

        Anew after an outage of the API server: they would look for it again after up to a minute.
        """
        folder = self.folder
        for program, short in (("kube-controller-manager", "kcm"), ("kube-scheduler", "sched")):
            self.processes.stop(program, kill=True)
            config = pki.kubeconfig(
                folder / f"{short}.kubeconfig",
                server=SERVER,
                ca=folder / "ca.crt",
                user=f"system:{program}",
            )
            command: list[str | Path] = [
                programs.kubernetes() / program,
                f"--kubeconfig={config}",
                f"--authentication-kubeconfig={config}",
                f"--authorization-kubeconfig={config}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--cert-dir={folder}/{short}",
            ]
            if short == "kcm":
                command += [
                    f"--root-ca-file={folder}/ca.crt",
                    f"--service-account-private-key-file={folder}/sa.key",
                    "--use-service-account-credentials=true",
                    "--horizontal-pod-autoscaler-sync-period=5s",
                    # By default 20 requests a second, of which the end of a namespace takes a hundred.
                    "--kube-api-qps=500",
                    "--kube-api-burst=1000",
                ]
            self.processes.start(program, command)

    def start(self) -> None:
        """Start everything: a cluster of one node, Ready."""
        self.start_control_plane()
        self.start_controllers()
        node.start(self)
        self.processes.wait_until("kubelet", self.node_is_ready, seconds=90)

    # --- look -----------------------------------------------------------------------------------

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as the cluster's admin and return what it prints."""
        done = subprocess.run(
            [
                *self.namespace.command,
                programs.clients() / "kubectl",
                "--kubeconfig",
                self.kubeconfig,
                f"--cache-dir={self.folder}/kubectl",
                *args,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"kubectl {' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout

    def get(self, *args: str) -> Any:
        """Run `kubectl get ... -o json`."""
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def api_is_ready(self) -> bool:
        """Whether the API server answers /readyz."""
        request = urllib.request.Request(
            f"{SERVER}/readyz", headers={"Authorization": "Bearer admin-token"}
        )
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        with self.namespace.entered():
            try:
                with urllib.request.urlopen(request, timeout=2, context=context) as answer:
                    return bool(answer.status == 200)
            except (OSError, urllib.error.URLError):
                return False

    def wait_until_defined(self, crd: str) -> None:
        """Wait until the API server serves a resource that was just defined."""
        wanted = "{.status.conditions[?(@.type=='Established')].status}"
        look = ("get", "crd", crd, "-o", f"jsonpath={wanted}")
        # Not `kubectl wait`, which fails while there are no conditions yet.
        self.processes.wait_until(
            "kube-apiserver", lambda: self.kubectl(*look, check=False) == "True", seconds=60
        )

    def node_is_ready(self) -> bool:
        """Whether the node reports Ready."""
        wanted = "{.items[*].status.conditions[?(@.type=='Ready')].status}"
        return self.kubectl("get", "nodes", "-o", f"jsonpath={wanted}", check=False) == "True"

    # --- stop -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """End everything and remove every trace, also after a start that failed half-way."""
        node.stop_pods(self)
        for name in (
            "kubelet",
            "kube-proxy",
            "dnsmasq",
            "kube-controller-manager",
            "kube-scheduler",
        ):
            self.processes.stop(name)
        for name in ("kube-apiserver", "etcd", "containerd"):
            self.processes.stop(name)
        end_all_that_mention(self.folder)
        node.clean_up(self)
        self.namespace.delete()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_credentials(self) -> None:
        folder = self.folder
        authority = pki.Authority.new("ca", folder)
        authority.sign(
            "kube-apiserver",
            folder,
            ips=[NODE_IP, "10.96.0.1", "127.0.0.1"],
            dns=["kubernetes.default.svc", "kubernetes.default", "localhost"],
        )
        pki.Authority.new("front-ca", folder).sign("front-proxy-client", folder)
        pki.write_service_account_keys(folder)
        pki.write_tokens(folder / "tokens.csv")
        pki.kubeconfig(self.kubeconfig, server=SERVER, ca=folder / "ca.crt", user="admin")


def control_plane() -> AbstractContextManager[Cluster]:
    """A control plane for the length of a ``with`` block."""
    return started(Cluster.start_control_plane)


def cluster() -> AbstractContextManager[Cluster]:
    """A whole cluster for the length of a ``with`` block."""
    return started(Cluster.start)


@contextmanager
def started(start: Callable[[Cluster], None]) -> Iterator[Cluster]:
    """A cluster that ``start`` starts, for the length of a ``with`` block."""
    sweep()
    new = Cluster.new()
    try:
        start(new)
        yield new
    finally:
        new.stop()


def sweep(*, kept_too: bool = False) -> int:
    """Stop clusters whose owner is gone, and those that `up` has left running; return how many."""
    swept = 0
    for folder in sorted(CLUSTERS.glob("*")) if CLUSTERS.exists() else []:
        owner = folder / "owner"
        alive = owner.exists() and Path(f"/proc/{owner.read_text()}").exists()
        kept = (folder / "kept").exists()
        if (kept and kept_too) or not (kept or alive):
            Cluster(folder).stop()
            swept += 1
    return swept
