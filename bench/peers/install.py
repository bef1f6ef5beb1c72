"""Installs the peers outside the checkout's own environment, each in one of its own.

They pin each other's redis-py, so one environment cannot hold them all. The versions are those of
`constraints/`; the folder is named after them, so that a new version is a new folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CONSTRAINTS = Path(__file__).parent / "constraints"
RETRY = Path(__file__).parents[2] / "scripts" / "retry"
PYTHON_PEERS = ("arq", "dramatiq", "huey", "rq", "taskiq")
NODE_PEER = "bullmq"


class Missing(RuntimeError):
    """Something that this machine has to provide is not there."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where the peers are installed."""

    folder: Path

    @classmethod
    def of(cls) -> Home:
        """The folder for the versions that are asked for now."""
        digest = hashlib.sha256(sys.version.encode())
        for path in sorted(CONSTRAINTS.iterdir()):
            digest.update(path.read_bytes())
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(cache / "celeriac" / f"bench-{digest.hexdigest()[:12]}")

    def python(self, peer: str) -> Path:
        """The interpreter that has a peer; our own for Celery and Celeriac."""
        if peer not in PYTHON_PEERS:
            return Path(sys.executable)
        return self.folder / peer / "bin" / "python"

    @property
    def node_folder(self) -> Path:
        """Where Node finds BullMQ."""
        return self.folder / NODE_PEER

    @property
    def node(self) -> str:
        """The program. Raises Missing."""
        return _program("node")

    def install(self, peer: str) -> None:
        """Install a peer unless it is there. Raises Missing, and CalledProcessError."""
        stamp = self.folder / f"{peer}.installed"
        if stamp.exists() or peer not in (*PYTHON_PEERS, NODE_PEER):
            return
        print(f"installing {peer} into {self.folder} ...", file=sys.stderr)
        self.folder.mkdir(parents=True, exist_ok=True)
        if peer == NODE_PEER:
            self._install_node()
        else:
            self._install_python(peer)
        stamp.touch()

    def _install_python(self, peer: str) -> None:
        folder = self.folder / peer
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = (str(self.python(peer)), "-m", "pip", "--disable-pip-version-check", "--quiet")
        wanted = ("-r", str(CONSTRAINTS / f"{peer}.txt"))
        subprocess.run([str(RETRY), *pip, "install", "--no-deps", *wanted], check=True)
        subprocess.run([*pip, "check"], check=True)

    def _install_node(self) -> None:
        self.node_folder.mkdir(exist_ok=True)
        shutil.copy(CONSTRAINTS / f"{NODE_PEER}.json", self.node_folder / "package.json")
        quietly = ("--package-lock=false", "--no-audit", "--no-fund", "--loglevel=error")
        command = [str(RETRY), _program("npm"), "install", *quietly]
        subprocess.run(command, cwd=self.node_folder, check=True)

    def versions(self, peer: str) -> str:
        """What is installed of a peer, for the report."""
        if peer == NODE_PEER:
            wanted = json.loads((CONSTRAINTS / f"{NODE_PEER}.json").read_text())["dependencies"]
            node = subprocess.run(
                [self.node, "--version"], capture_output=True, text=True, check=True
            )
            return f"bullmq {wanted['bullmq']}, ioredis {wanted['ioredis']}, Node {node.stdout[1:].strip()}"
        pins = (CONSTRAINTS / f"{peer}.txt").read_text().splitlines()
        named = (peer, f"{peer}-redis", "redis", "hiredis", "uvloop")
        return ", ".join(pin.replace("==", " ") for pin in pins if pin.partition("==")[0] in named)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"BullMQ needs {name}, and there is none on PATH (Node.js 20 or newer)")
    return found
