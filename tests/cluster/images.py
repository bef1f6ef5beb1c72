"""Images without a registry: a pause image from six lines of C, a Python base from Debian packages."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.cache import cached

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

DEBIAN = "bookworm"
BASE = f"localhost/python-base:{DEBIAN}"

_PAUSE_C = """\
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int s) { _exit(0); }
static void reap(int s) { while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGTERM, leave); signal(SIGINT, leave); signal(SIGCHLD, reap); for (;;) pause(); }
"""


def ctr(cluster: Cluster, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run containerd's own client."""
    socket = f"{cluster.folder}/run/containerd.sock"
    command = [*cluster.namespace.command, "ctr", "-a", socket, "-n", "k8s.io", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"ctr {' '.join(args)}: {done.stderr.strip()}")
    return done


def load(cluster: Cluster, archive: Path) -> None:
    """Import an image archive into the node."""
    ctr(cluster, "images", "import", str(archive))


def pause(folder: Path) -> Path:
    """Make the pause image's archive: localhost/pause:3.10."""
    source = folder / "pause.c"
    source.write_text(_PAUSE_C)
    program = folder / "pause"
    subprocess.run(
        ["gcc", "-static", "-Os", "-o", program, source], check=True, capture_output=True
    )
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        info = tarfile.TarInfo("pause")
        info.mode, info.size = 0o755, program.stat().st_size
        tar.addfile(info, io.BytesIO(program.read_bytes()))
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    manifest = [
        {"Config": "config.json", "RepoTags": ["localhost/pause:3.10"], "Layers": ["layer.tar"]}
    ]
    archive = folder / "pause.tar"
    with tarfile.open(archive, "w") as tar:
        for name, data in (
            ("layer.tar", layer.getvalue()),
            ("config.json", config),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive


def base() -> Path:
    """The archive of the base image: Debian with Python, made of Debian packages, cached."""
    return cached(f"python-base-{DEBIAN}", _build_base) / "base.tar"


def build(checkout: Path, *, target: str, tag: str, archive: Path) -> Path:
    """Build a target of the checkout's Dockerfile on our base, and write its archive."""
    store = archive.parent / "buildah"
    if BASE not in _buildah(store, "images", "--format={{.Name}}:{{.Tag}}"):
        _buildah(store, "pull", f"docker-archive:{base()}")
    certificates = "/etc/ssl/certs"
    _buildah(
        store,
        "bud",
        "--layers",
        "--isolation=chroot",
        "--network=host",
        f"--build-arg=BASE={BASE}",
        f"--volume={certificates}:{certificates}:ro",
        f"--env=PIP_CERT={certificates}/ca-certificates.crt",
        f"--target={target}",
        f"--tag={tag}",
        str(checkout),
    )
    archive.unlink(missing_ok=True)
    _buildah(store, "push", tag, f"docker-archive:{archive}:{tag}")
    return archive


def _build_base(target: Path) -> None:
    root = target / "root.tar"
    subprocess.run(
        [
            "mmdebstrap",
            "--variant=minbase",
            "--include=python3,python3-venv,ca-certificates",
            DEBIAN,
            root,
        ],
        check=True,
    )
    store = target / "buildah"
    container = _buildah(store, "from", "scratch").strip()
    _buildah(store, "add", container, str(root))
    _buildah(store, "commit", container, BASE)
    _buildah(store, "push", BASE, f"docker-archive:{target}/base.tar:{BASE}")
    subprocess.run(["rm", "-rf", store, root], check=True)


def _buildah(store: Path, *args: str) -> str:
    done = subprocess.run(
        [
            "buildah",
            f"--root={store}/root",
            f"--runroot={store}/run",
            "--storage-driver=overlay",
            *args,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"buildah {args[0]}: {done.stderr[-3000:]}{done.stdout[-2000:]}")
    return done.stdout
