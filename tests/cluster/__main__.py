"""`python -m tests.cluster up | down | kubectl ...`: a cluster to work with by hand."""

from __future__ import annotations

import subprocess
import sys

from tests.cluster import programs
from tests.cluster.cluster import CLUSTERS, Cluster, sweep

_USAGE = "usage: python -m tests.cluster up | down | kubectl ARGUMENT..."


def main(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    match arguments:
        case ["up"]:
            return _up()
        case ["down"]:
            print(f"stopped {sweep(kept_too=True)} cluster(s)")
            return 0
        case ["kubectl", *rest]:
            running = sorted(CLUSTERS.glob("*/kept"))
            if not running:
                print("no cluster is up: run `make cluster` first", file=sys.stderr)
                return 1
            cluster = Cluster(running[-1].parent)
            command = [*cluster.namespace.command, str(programs.clients() / "kubectl")]
            return subprocess.call([*command, "--kubeconfig", str(cluster.kubeconfig), *rest])
        case _:
            print(_USAGE, file=sys.stderr)
            return 2


def _up() -> int:
    lacking = programs.missing(programs.CONTROL_PLANE_NEEDS | programs.NODE_NEEDS)
    if lacking:
        print("this machine cannot run a cluster:\n  " + "\n  ".join(lacking), file=sys.stderr)
        return 1
    sweep()
    cluster = Cluster.new()
    try:
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
    (cluster.folder / "kept").touch()
    print(cluster.kubectl("get", "nodes"), end="")
    inside = " ".join(cluster.namespace.command)
    print(
        f"\nUse it:   python -m tests.cluster kubectl get pods -A\n"
        f"or:       {inside} env KUBECONFIG={cluster.kubeconfig} bash\n"
        f"Stop it:  make cluster-down"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
