"""Runs the phases one after the other, and prints the table."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.operator_scale.measure import Meter, Usage
from bench.operator_scale.report import Phase, table
from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.message import NewMessage
from celeriac.broker.queue import Queue
from celeriac_operator import kinds
from tests.api.fake_kubelet import FakeKubelet
from tests.api.kube import NAMESPACES, Kube
from tests.api.operator_process import OperatorProcess, prepare, until
from tests.cluster import programs
from tests.cluster.cluster import Cluster, control_plane

CRD = Path(__file__).parents[2] / "charts/celeriac-crds/templates/messagequeues.yaml"
NAMESPACE = "scale"


class Bench:
    """A cluster, a broker, and an operator for many queues."""

    def __init__(
        self, cluster: Cluster, broker: EmbeddedServer, options: argparse.Namespace
    ) -> None:
        self.cluster = cluster
        self.broker = broker
        self.options = options
        self.kube = Kube(cluster, NAMESPACE)
        self.names = [f"queue-{number:04}" for number in range(options.queues)]
        self.operator = OperatorProcess(cluster, prepare(cluster), port=18080)
        self.phases: list[Phase] = []

    def run(self) -> None:
        """Run all phases."""
        self.declare()
        self.come_up()
        self.idle()
        self.work()
        self.take_over()

    def declare(self) -> None:
        """Declare all queues before there is an operator, so that only it is measured."""
        self.kube.request("POST", NAMESPACES.path(None), {"metadata": {"name": NAMESPACE}})
        self.kube.secret("celeriac-broker", url=self.broker.url)
        began = time.monotonic()
        for name in self.names:
            self.kube.declare(name, queue=name, autoscaling={"maxReplicas": 2})
        seconds = time.monotonic() - began
        print(f"declared {len(self.names)} queues in {seconds:.0f} s", flush=True)

    def come_up(self) -> None:
        """From the operator's start to all queues Ready."""
        with self.phase("start until all are Ready", fresh=True):
            self.operator.start()
            until(self.operator.leads, seconds=60)
            until(lambda: self.ready("Idle") == len(self.names), seconds=900, every=1.0)

    def idle(self) -> None:
        """Nothing changes."""
        time.sleep(10)
        with self.phase(f"idle for {self.options.idle} s"):
            time.sleep(self.options.idle)

    def work(self) -> None:
        """Messages come into some queues at once."""
        busy = self.names[: self.options.busy]
        with self.phase(f"first messages in {len(busy)} queues, until their workers are ready"):
            with self.cluster.namespace.entered():
                client = connect(self.broker.url)
                for name in busy:
                    Queue(client, name).publish([NewMessage(id=name, task="t", body=b"[]")])
                client.close()
            until(lambda: self.ready("Running") == len(busy), seconds=300, every=0.5)
        with self.phase(f"{len(busy)} queues at work for {self.options.idle} s"):
            time.sleep(self.options.idle)

    def take_over(self) -> None:
        """The operator is killed, and another one finds everything as it should be."""
        self.operator.stop(kill=True)
        changed = self.names[-1]
        with self.phase("killed: until its successor has done a change", fresh=True):
            self.kube.patch(kinds.QUEUES, changed, {"spec": {"worker": {"concurrency": 2}}})
            self.operator.start()
            until(
                lambda: self.kube.queue(changed)["status"]["observedGeneration"] == 2, seconds=120
            )
        with self.phase(f"after that for {self.options.idle} s"):
            time.sleep(self.options.idle)

    def ready(self, reason: str) -> int:
        """How many queues are Ready for this reason."""
        total = 0
        for queue in self.kube.list(kinds.QUEUES):
            for it in queue.get("status", {}).get("conditions", ()):
                total += it["type"] == "Ready" and (it["status"], it["reason"]) == ("True", reason)
        return total

    @contextmanager
    def phase(self, name: str, *, fresh: bool = False) -> Iterator[None]:
        """Measure what the operator uses meanwhile; ``fresh``: it is started within."""
        meter = Meter(self.operator)
        before = Usage() if fresh else meter.usage()
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        used = meter.usage()
        self.phases.append(Phase(name, seconds, used.since(before), used.rss_mb))
        print(f"{name}: {seconds:.1f} s", flush=True)


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.operator_scale", description=__doc__)
    parser.add_argument("--queues", type=int, default=1000)
    parser.add_argument("--busy", type=int, default=100)
    parser.add_argument("--idle", type=int, default=60, metavar="SECONDS")
    options = parser.parse_args()
    lacking = programs.missing(programs.CONTROL_PLANE_NEEDS)
    if lacking:
        print("this machine cannot run it:\n  " + "\n  ".join(lacking), file=sys.stderr)
        return 1
    with control_plane() as cluster, tempfile.TemporaryDirectory() as folder:
        cluster.kubectl("create", "-f", str(CRD))
        cluster.wait_until_defined("messagequeues.celeriac.dev")
        cluster.start_controllers()
        broker = EmbeddedServer(Path(folder))
        with cluster.namespace.entered():
            broker.start()
        kubelet = FakeKubelet(cluster, namespace=NAMESPACE, step_s=0.5)
        kubelet.start()
        bench = Bench(cluster, broker, options)
        print(f"log: {cluster.folder}", flush=True)
        try:
            bench.run()
        finally:
            bench.operator.stop()
            kubelet.stop()
            broker.stop()
    print(table(bench.phases, queues=options.queues))
    return 0


if __name__ == "__main__":
    sys.exit(main())
