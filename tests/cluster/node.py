"""The cluster's one node: containerd, kubelet, kube-proxy and a name server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.cluster import images, pki, programs
from tests.cluster.namespace import DNS_IP, NODE_IP, POD_NETWORK

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

NAME = "node1"
_CGROUPS = Path("/sys/fs/cgroup")
#: Settings that the kubelet changes for the whole machine.
_KERNEL_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


def start(cluster: Cluster) -> None:
    """Start the node's programs and import the pause image."""
    folder = cluster.folder
    _write_configuration(folder, cgroup=f"/{cluster.namespace.name}")
    cluster.processes.start("containerd", ["containerd", "--config", folder / "containerd.toml"])
    cluster.processes.wait_until("containerd", lambda: _containerd_answers(cluster), seconds=30)
    images.load(cluster, images.pause(folder))
    server = "https://" + NODE_IP + ":6443"
    configs = {
        name: pki.kubeconfig(
            folder / f"{name}.kubeconfig", server=server, ca=folder / "ca.crt", user=user
        )
        for name, user in (("kubelet", f"system:node:{NAME}"), ("kube-proxy", "system:kube-proxy"))
    }
    for group in cgroups(cluster.namespace.name):
        group.mkdir(exist_ok=True)
    (folder / "kernel.json").write_text(json.dumps(kernel_settings()))
    start_kubelet(cluster)
    cluster.processes.start(
        "kube-proxy",
        [
            programs.kubernetes() / "kube-proxy",
            f"--kubeconfig={configs['kube-proxy']}",
            "--proxy-mode=nftables",
            f"--hostname-override={NAME}",
            f"--cluster-cidr={POD_NETWORK}",
            # These would be settings of the whole machine.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ],
    )


def start_kubelet(cluster: Cluster) -> None:
    """Start the kubelet (again, for tests that restart it)."""
    folder = cluster.folder
    cluster.processes.start(
        "kubelet",
        [
            programs.kubernetes() / "kubelet",
            f"--config={folder}/kubelet.yaml",
            f"--kubeconfig={folder}/kubelet.kubeconfig",
            f"--hostname-override={NAME}",
            f"--node-ip={NODE_IP}",
            f"--root-dir={folder}/kubelet",
            f"--cert-dir={folder}/kubelet-pki",
        ],
    )


def start_dns(cluster: Cluster, addresses: dict[str, str]) -> None:
    """Serve names to pods: each of ``addresses`` (name: IP), behind the cluster's DNS service."""
    cluster.processes.stop("dnsmasq")
    cluster.processes.start(
        "dnsmasq",
        ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces"]
        + [f"--listen-address={NODE_IP}", "--port=5353", "--local=/cluster.local/"]
        + [f"--pid-file={cluster.folder}/dnsmasq.pid", "--user=root"]
        + [f"--address=/{name}/{ip}" for name, ip in addresses.items()],
    )
    ports: list[dict[str, object]] = [
        {"name": name, "port": 53, "targetPort": 5353, "protocol": name.upper()}
        for name in ("udp", "tcp")
    ]
    expose(cluster, name="kube-dns", namespace="kube-system", ip=DNS_IP, ports=ports)


def expose(
    cluster: Cluster, *, name: str, namespace: str, ip: str, ports: list[dict[str, object]]
) -> None:
    """Give a program that runs beside the cluster a Service: no selector, one endpoint, the node."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": ip, "ports": ports},
    }
    slice_ports = [
        {"name": p["name"], "port": p["targetPort"], "protocol": p["protocol"]} for p in ports
    ]
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-node",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": slice_ports,
        "endpoints": [{"addresses": [NODE_IP], "conditions": {"ready": True}}],
    }
    for document in (service, endpoints):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(document))


def stop_pods(cluster: Cluster) -> None:
    """Delete every pod at once, so that the kubelet takes its mounts and cgroups down itself."""
    if cluster.kubeconfig.exists() and cluster.api_is_ready():
        for kind in ("deployments", "statefulsets", "jobs", "daemonsets"):
            cluster.kubectl(
                "delete", kind, "-A", "--all", "--wait=false", "--cascade=background", check=False
            )
        cluster.kubectl(
            "delete",
            "pods",
            "-A",
            "--all",
            "--force",
            "--grace-period=0",
            "--timeout=20s",
            check=False,
        )


def kernel_settings() -> dict[str, str]:
    """The values of the settings that a kubelet changes."""
    return {name: Path("/proc/sys", name).read_text() for name in _KERNEL_SETTINGS}


def clean_up(cluster: Cluster) -> None:
    """Unmount what is mounted below the folder, pods' namespaces too, remove our cgroups, undo settings."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(str(cluster.folder))), reverse=True):
        subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
    for root in cgroups(cluster.namespace.name):
        for group in sorted([root, *root.rglob("*")], reverse=True):
            if group.is_dir():
                _remove_group(group)
    before = cluster.folder / "kernel.json"
    if before.exists():
        for name, value in json.loads(before.read_text()).items():
            setting = Path("/proc/sys", name)
            if setting.read_text() != value:
                setting.write_text(value)


def cgroups(name: str) -> list[Path]:
    """Cgroups of our own, one for each hierarchy: a kubelet kills what is below its root and not its own."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS / name]
    return [it / name for it in _CGROUPS.iterdir() if it.is_dir() and not it.is_symlink()]


def _remove_group(group: Path) -> None:
    """Remove a cgroup, and kill what is left in it: containers whose shim died before them."""
    for _ in range(50):
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):  # the last process is not gone yet
            group.rmdir()
            return
        time.sleep(0.1)


def _containerd_answers(cluster: Cluster) -> bool:
    done = images.ctr(cluster, "version", check=False)
    return done.returncode == 0


def _write_configuration(folder: Path, *, cgroup: str) -> None:
    for name in ("cni", "podlogs", "run"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "resolv.conf").write_text(f"nameserver {NODE_IP}\n")
    plugins = [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_NETWORK}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": f"{folder}/ipam",
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    conflist = {"cniVersion": "1.0.0", "name": "tests", "plugins": plugins}
    (folder / "cni" / "10-tests.conflist").write_text(json.dumps(conflist))
    (folder / "containerd.toml").write_text(
        _CONTAINERD.format(folder=folder, cni=programs.CNI_PLUGINS)
    )
    (folder / "kubelet.yaml").write_text(yaml.safe_dump({**_kubelet(folder), "cgroupRoot": cgroup}))
    shutil.rmtree(folder / "ipam", ignore_errors=True)


_CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "{folder}/run/containerd"
[grpc]
address = "{folder}/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:3.10"
# Without CAP_SYS_RESOURCE every sandbox dies at birth otherwise.
restrict_oom_score_adj = true
# The namespaces of pods are mounts below our folder, and go with it.
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni}"
conf_dir = "{folder}/cni"
"""


def _kubelet(folder: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": f"unix://{folder}/run/containerd.sock",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_IP],
        "resolvConf": f"{folder}/resolv.conf",
        "podLogsDir": f"{folder}/podlogs",
        "makeIPTablesUtilChains": False,
        "localStorageCapacityIsolation": False,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "5s",
        "serializeImagePulls": False,
    }
