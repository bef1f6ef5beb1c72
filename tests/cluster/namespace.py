"""A network namespace, so that a cluster's addresses and ports meet nothing on the machine."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_CLONE_NEWNET = 0x40000000

#: The node's address inside the namespace, the pods' and the services' networks.
NODE_IP = "10.123.0.1"
POD_NETWORK = "10.124.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
DNS_IP = "10.96.0.10"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A named network namespace."""

    name: str

    @property
    def command(self) -> list[str]:
        """What to put before a command to run it inside."""
        # Not `ip netns exec`: that remounts /sys and hides the cgroup mounts.
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def create(self) -> None:
        """Create it, with a bridge that carries the node's address and a default route."""
        _run("ip", "netns", "add", self.name)
        inside = self.command
        _run(*inside, "ip", "link", "set", "lo", "up")
        # A bridge, since the kubelet refuses loopback addresses.
        _run(*inside, "ip", "link", "add", "node0", "type", "bridge")
        _run(*inside, "ip", "addr", "add", f"{NODE_IP}/24", "dev", "node0")
        _run(*inside, "ip", "link", "set", "node0", "up")
        _run(*inside, "ip", "route", "add", "default", "dev", "node0")
        _run(*inside, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def delete(self) -> None:
        """Delete it; nothing happens when it is gone."""
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread (and processes and threads it starts) inside."""
        libc = ctypes.CDLL(None, use_errno=True)
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _set(libc, inside)
            try:
                yield
            finally:
                _set(libc, outside)
        finally:
            os.close(inside)
            os.close(outside)


def _set(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
